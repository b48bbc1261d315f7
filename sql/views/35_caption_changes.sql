-- How many greedy captions each intervention changed, and how many kept their words.
create or replace view caption_changes as
select r.model, c.arm, c.target, c.strength, c.language, s.image_shows, count(*) as n_captions,
    count(*) filter (where c.text <> c.baseline) as n_changed, avg((c.text <> c.baseline)::integer) as share_changed
from steered_captions c
join latest_runs r on r.run_id = c.run_id
left join run_samples s on s.run_id = c.run_id and s.sample_id = c.sample_id
group by r.model, c.arm, c.target, c.strength, c.language, s.image_shows;
comment on view caption_changes is 'Share of captions that each intervention changed.';
