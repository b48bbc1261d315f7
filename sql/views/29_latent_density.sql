-- How many latents of each dictionary are active on which share of the rows, on images never trained on.
create or replace view latent_density as
select r.model, d.layer, s.site, s.seed, s.role, s.k, s.n_latents, d.low, d.high, d.n_latents as n_in_bin
from sae_density d
join latest_runs r on r.run_id = d.run_id
left join run_lineage g on g.run_id = d.run_id and g.ancestor_stage = 'train'
left join saes s on s.run_id = g.ancestor_run_id and s.sae_id = d.sae_id;
comment on view latent_density is 'Histogram of latent densities per dictionary.';
