-- What was left out and why: input rows set aside, and samples that failed in extract.
create or replace view left_out as
select 'prepare' as stage, p.source, p.row_number, p.sample_id, p."column", p.value, null::varchar as language, p.reason
from sample_problems p
join latest_runs r on r.run_id = p.run_id
union all by name
select 'extract' as stage, null::varchar as source, null::bigint as row_number, e.sample_id, null::varchar as "column", null::varchar as value, e.language,
    coalesce(e.reason, 'no reason was recorded') as reason
from extract_status e
join latest_runs r on r.run_id = e.run_id
where e.status = 'failed';
comment on view left_out is 'Input rows and samples left out, with the reason.';
