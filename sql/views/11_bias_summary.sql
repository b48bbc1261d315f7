-- Every headline number of the model's behaviour, per language, with its interval; profession by profession is in profession_skew.
create or replace view bias_summary as
select
    r.model, m.metric, n.label, m.language, case m.gender when 'F' then 'woman' when 'M' then 'man' when 'A' then 'ambiguous' end as image_shows,
    m.value, m.low, m.high, n.unit, n.null_value,
    m.low > n.null_value or m.high < n.null_value as interval_excludes_null,
    m.n_images, m.n_clusters, m.note, coalesce(n.place, 99) as place
from behavior_metrics m
join latest_runs r on r.run_id = m.run_id
left join metric_names n on n.metric = m.metric
where m.context is null;
comment on view bias_summary is 'Headline behaviour numbers per language with 95 % image-cluster intervals.';
