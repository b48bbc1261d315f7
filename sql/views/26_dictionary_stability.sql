-- How many latents of each main dictionary another seed has too, and the frozen random decoder as a null.
create or replace view dictionary_stability as
select
    r.model, p.layer, s.site, s.seed, o.seed as other_seed, p.other_role as compared_with, p.n_latents, p.n_live, p.n_matched, p.n_stable, p.stable_share,
    p.mean_cosine, p.mean_correlation, p.null_cosine, p.null_cosine_high, p.n_rows
from sae_stability p
join latest_runs r on r.run_id = p.run_id
left join run_lineage g on g.run_id = p.run_id and g.ancestor_stage = 'train'
left join saes s on s.run_id = g.ancestor_run_id and s.sae_id = p.sae_id
left join saes o on o.run_id = g.ancestor_run_id and o.sae_id = p.other_sae_id;
comment on view dictionary_stability is 'Share of latents that other seeds find again, with its null.';
