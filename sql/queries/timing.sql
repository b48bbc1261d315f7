-- How long each stage took, its rows per second and peak memory.
select stage, model, seconds, n_rows, rows_per_second, peak_memory_mib, finished_at, run_id
from stage_timing
order by finished_at, stage;
