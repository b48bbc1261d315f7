-- Every image with its reference captions, the model's greedy captions, and the exact P(woman), in both languages.
create or replace view caption_examples as
with greedy as (
    select g.run_id, g.sample_id,
        max(g.text) filter (where g.language = 'en') as greedy_en,
        max(g.text) filter (where g.language = 'ar') as greedy_ar,
        max(g.label) filter (where g.language = 'en') as label_en,
        max(g.label) filter (where g.language = 'ar') as label_ar
    from generated_captions g
    join latest_runs r on r.run_id = g.run_id
    where g.mode = 'greedy' and g.draw = 0
    group by g.run_id, g.sample_id
),
exact as (
    select e.run_id, e.sample_id,
        max(e.p_female) filter (where e.language = 'en') as p_female_en,
        max(e.p_female) filter (where e.language = 'ar') as p_female_ar
    from exact_probabilities e
    join latest_runs r on r.run_id = e.run_id
    group by e.run_id, e.sample_id
)
select
    s.sample_id, s.profession, s.image_shows, s.split, s.style, s.caption_en, greedy.greedy_en, greedy.label_en, exact.p_female_en,
    s.caption_ar, greedy.greedy_ar, greedy.label_ar, exact.p_female_ar, s.image_path
from greedy
join run_samples s on s.run_id = greedy.run_id and s.sample_id = greedy.sample_id
left join exact on exact.run_id = greedy.run_id and exact.sample_id = greedy.sample_id;
comment on view caption_examples is 'Images with reference and greedy captions and exact P(woman) in both languages.';
