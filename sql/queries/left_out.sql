-- What was left out and why: reasons with counts and one example each.
select stage, reason, count(*) as n, min(coalesce(source || ':' || row_number, sample_id)) as first_place, min("column") as "column", min(value) as example
from left_out
group by stage, reason
order by n desc, stage, reason;
