-- Behaviour numbers of every finished run, not only the newest: for comparing models and configurations.
create or replace view all_behavior as
select r.model, r.run_id, r.finished_at, m.metric, n.label, m.language, replace(m.context, '_', ' ') as profession,
    case m.gender when 'F' then 'woman' when 'M' then 'man' when 'A' then 'ambiguous' end as image_shows, m.value, m.low, m.high, m.n_images, m.n_clusters, m.note
from behavior_metrics m
join runs r on r.run_id = m.run_id
left join metric_names n on n.metric = m.metric
where r.status = 'done';
comment on view all_behavior is 'Behaviour numbers of every finished run.';
