-- How alike the matched random latents are to the chosen ones: a standardised difference under .1 is alike.
create or replace view matching as
select r.model, s.layer, b.target, b.language, b.covariate, b.target_mean, b.random_mean, b.standardized_difference,
    abs(b.standardized_difference) < 0.1 as alike
from matching_balance b
join latest_runs r on r.run_id = b.run_id
left join run_lineage g on g.run_id = b.run_id and g.ancestor_stage = 'train'
left join saes s on s.run_id = g.ancestor_run_id and s.sae_id = b.sae_id;
comment on view matching is 'Balance of the matched random latents.';
