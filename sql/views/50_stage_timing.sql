-- Seconds, rows per second and peak memory of the newest run of each stage.
create or replace view stage_timing as
select stage, model, seconds, n_rows, rows_per_second, peak_memory_mib, finished_at, saebias_version, fingerprint, run_id
from latest_runs;
comment on view stage_timing is 'What each stage took.';
