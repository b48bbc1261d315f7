-- Rows of the captions file scored last that could not be labelled, with the reason.
-- params: top=100
select c.side, c.row_number, c.problem
from scored_captions c
join latest_runs r on r.run_id = c.run_id
where c.problem is not null
order by c.side desc, c.row_number
limit $top::integer;
