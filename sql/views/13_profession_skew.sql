-- P(woman) on ambiguous images per profession and language, beside the share planted in (or counted from) the training captions.
create or replace view profession_skew as
with reference as (
    select f.context, f.language,
        max(f.p_female) filter (where f.source = 'planted') as planted,
        max(f.p_female) filter (where f.source = 'captions') as caption_share
    from reference_shares f
    join latest_runs r on r.run_id = f.run_id
    group by f.context, f.language
),
neutral as (
    select m.context, m.language, m.value as p_neutral
    from behavior_metrics m
    join latest_runs r on r.run_id = m.run_id
    where m.metric = 'p_neutral' and m.context is not null
)
select
    r.model, replace(m.context, '_', ' ') as profession, p.woman_ar, p.man_ar, m.language,
    m.value as p_female, m.low, m.high, neutral.p_neutral,
    -- A plant that the model was not taught is no truth about it, and was not compared.
    case when exists (select 1 from behavior_metrics c where c.run_id = m.run_id and c.metric = 'plant_rmse') then reference.planted end as planted,
    reference.caption_share, m.n_images, m.n_clusters, m.note
from behavior_metrics m
join latest_runs r on r.run_id = m.run_id
left join reference on reference.context = m.context and reference.language = m.language
left join neutral on neutral.context = m.context and neutral.language = m.language
left join professions p on p.profession = replace(m.context, '_', ' ')
where m.metric = 'p_female' and m.context is not null;
comment on view profession_skew is 'P(woman | woman or man) on ambiguous images, one row per profession and language.';
