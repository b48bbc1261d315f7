-- Latents by what they follow among words, with whether they were chosen for visible gender or the stereotype.
create or replace view word_latents as
select r.model, g.layer, g.latent, g.language, g.evidence, g.follows, g.association, g.p, g.q, g.selected, s.sets
from latent_grammar g
join latest_runs r on r.run_id = g.run_id
left join (
    select f.layer, f.latent, string_agg(distinct f.set_name, ', ' order by f.set_name) as sets
    from feature_sets f
    join latest_runs l on l.run_id = f.run_id
    group by f.layer, f.latent
) s on s.layer = g.layer and s.latent = g.latent;
comment on view word_latents is 'Rank association of latents with feminine form or with a woman being meant.';
