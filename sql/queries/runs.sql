-- Every run of every stage, newest first: status, time, size, and whether the views show it.
-- params: stage=, top=50
select r.run_id, r.stage, r.model, r.status, r.started_at, r.finished_at, r.seconds, r.n_rows, r.peak_memory_mib,
    r.run_id in (select run_id from latest_runs) as shown, r.run_id in (select run_id from stale_runs) as stale
from runs r
where $stage::varchar is null or r.stage = $stage::varchar
order by r.started_at desc, r.run_id
limit $top::integer;
