-- What is said about images that show a woman or a man: correct, wrong, neutral, mixed, no person; profession is null for all together.
create or replace view outcomes as
select
    r.model, m.language, case m.gender when 'F' then 'woman' when 'M' then 'man' end as image_shows, replace(m.context, '_', ' ') as profession,
    replace(replace(m.metric, 'outcome_', ''), '_', ' ') as outcome, m.value as share, m.low, m.high, m.n_images, m.n_clusters, m.note
from behavior_metrics m
join latest_runs r on r.run_id = m.run_id
where m.metric in ('outcome_correct', 'outcome_wrong', 'outcome_neutral', 'outcome_mixed', 'outcome_no_person') and m.gender is not null;
comment on view outcomes is 'Outcomes on clear images per gender shown, language and profession.';
