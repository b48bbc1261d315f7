-- Rows that speak of a sample that no prepare run made.
select 'generated_captions' as "table", run_id, sample_id from generated_captions where sample_id not in (select sample_id from samples)
union all
select 'exact_probabilities', run_id, sample_id from exact_probabilities where sample_id not in (select sample_id from samples)
union all
select 'captions', run_id, sample_id from captions where sample_id not in (select sample_id from samples)
union all
select 'steered_captions', run_id, sample_id from steered_captions where sample_id not in (select sample_id from samples)
union all
select 'extract_status', run_id, sample_id from extract_status where sample_id not in (select sample_id from samples)
union all
select distinct 'token_rows', run_id, sample_id from token_rows where sample_id not in (select sample_id from samples);
