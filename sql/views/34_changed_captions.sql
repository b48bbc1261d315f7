-- Greedy captions before and after an intervention, where they differ.
create or replace view changed_captions as
select
    r.model, c.arm, c.target, c.strength, c.language, s.profession, s.image_shows, s.split, c.baseline as caption_before, c.text as caption_after, c.label as label_after,
    c.sample_id, s.image_path
from steered_captions c
join latest_runs r on r.run_id = c.run_id
left join run_samples s on s.run_id = c.run_id and s.sample_id = c.sample_id
where c.text <> c.baseline;
comment on view changed_captions is 'Captions that an intervention changed, before and after.';
