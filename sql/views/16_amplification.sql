-- How skew grows from the training captions to the model's probabilities, to sampled and to greedy captions; each level and each step with an interval.
create or replace view amplification as
with levels as (
    select r.model, m.language, replace(m.metric, 'amplification_', '') as stage, m.value, m.low, m.high, m.n_images, m.n_clusters, m.note
    from behavior_metrics m
    join latest_runs r on r.run_id = m.run_id
    where m.metric in ('amplification_dataset', 'amplification_exact', 'amplification_sample', 'amplification_greedy') and m.context is null
),
steps as (
    select m.language, replace(m.metric, 'amplification_step_', '') as stage, m.value, m.low, m.high
    from behavior_metrics m
    join latest_runs r on r.run_id = m.run_id
    where m.metric like 'amplification\_step\_%' escape '\' and m.context is null
)
select
    l.model, l.language, list_position(['dataset', 'exact', 'sample', 'greedy'], l.stage) as place, l.stage,
    case l.stage when 'dataset' then 'training captions' when 'exact' then 'exact probability' when 'sample' then 'sampled captions' else 'greedy captions' end as step,
    l.value as skew, l.low, l.high, s.value as added, s.low as added_low, s.high as added_high, l.n_images, l.n_clusters, l.note
from levels l
left join steps s on s.language = l.language and s.stage = l.stage;
comment on view amplification is 'Mean |share of women - 1/2| over professions at each step from data to greedy captions.';
