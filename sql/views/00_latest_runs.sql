-- The run of each stage that every view shows (unless it is named all_*): the one the latest command worked with, else the newest finished one.
create or replace view latest_runs as
select r.run_id, r.stage, r.model, r.fingerprint, r.stage_version, r.finished_at, r.seconds, r.n_rows, r.rows_per_second, r.peak_memory_mib, r.saebias_version, r.parents
from runs r
left join current_runs c on c.run_id = r.run_id
where r.status = 'done'
qualify row_number() over (partition by r.stage order by c.run_id is not null desc, r.finished_at desc, r.run_id desc) = 1;
comment on view latest_runs is 'The finished run of each stage that the views show.';
