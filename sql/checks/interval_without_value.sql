-- Intervals that do not hold their own value, or that are upside down.
select 'behavior_metrics' as "table", run_id, metric as what, language, value, low, high from behavior_metrics where low > high
union all
select 'steering_effects', run_id, metric, language, value, low, high from steering_effects where low > high
union all
select 'probes', run_id, token_kind, train_language, balanced_accuracy, low, high from probes where low > high or balanced_accuracy not between 0 and 1
union all
select 'lens', run_id, visual_gender, language, gap, gap_low, gap_high from lens where gap_low > gap_high;
