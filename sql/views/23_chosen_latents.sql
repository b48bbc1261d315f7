-- The latents chosen for the interventions, best first, with their value on images never used to choose.
create or replace view chosen_latents as
select
    r.model, c.set_name, c.target, c.language, c.layer, s.site, s.seed, c.rank, c.latent, c.score, f.value_report, f.low, f.high, f.method, f.firing_rate, l.stable
from feature_sets c
join latest_runs r on r.run_id = c.run_id
left join run_lineage g on g.run_id = c.run_id and g.ancestor_stage = 'train'
left join saes s on s.run_id = g.ancestor_run_id and s.sae_id = c.sae_id
left join feature_scores f
    on f.run_id = c.run_id and f.sae_id = c.sae_id and f.latent = c.latent and f.language = c.language and f.target = c.target and f.selected
left join (select distinct model, layer, site, seed, latent, stable from latents) l
    on l.model is not distinct from r.model and l.layer = c.layer and l.site = s.site and l.seed is not distinct from s.seed and l.latent = c.latent;
comment on view chosen_latents is 'Latents chosen for the interventions.';
