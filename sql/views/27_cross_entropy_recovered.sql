-- What captions lose when the residual stream is replaced by a dictionary's reconstruction, against mean and zero ablation.
create or replace view cross_entropy_recovered as
select
    r.model, c.layer, s.site, s.seed, s.role, c.language, c.split, c.ce_untouched, c.ce_rebuilt, c.ce_rebuilt - c.ce_untouched as ce_rise,
    c.ce_mean_ablated, c.ce_zero_ablated, c.recovered_mean, c.recovered_zero, c.n_samples, c.n_tokens, c.note
from sae_cross_entropy c
join latest_runs r on r.run_id = c.run_id
left join run_lineage g on g.run_id = c.run_id and g.ancestor_stage = 'train'
left join saes s on s.run_id = g.ancestor_run_id and s.sae_id = c.sae_id;
comment on view cross_entropy_recovered is 'Cross-entropy of the captions through each dictionary.';
