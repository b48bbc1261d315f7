-- Every latent tested: its association with visible gender or with the stereotype; 0 effect is chance, positive means towards women.
create or replace view latents as
select
    r.model, f.layer, s.site, s.seed, f.latent, f.language, f.target, f.method,
    f.value_select, f.p, f.q, f.value_report, f.low, f.high,
    case when f.method like 'auroc%' then f.value_report - 0.5 else f.value_report end as effect,
    f.firing_rate, f.selected
from feature_scores f
join latest_runs r on r.run_id = f.run_id
left join run_lineage g on g.run_id = f.run_id and g.ancestor_stage = 'train'
left join saes s on s.run_id = g.ancestor_run_id and s.sae_id = f.sae_id;
comment on view latents is 'Association of every latent with visible gender or with the stereotype.';
