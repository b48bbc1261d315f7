-- Every latent tested: its association with visible gender or with the stereotype; 0 effect is chance, positive means towards women.
create or replace view latents as
with siblings as (
    select run_id, sae_id, count(*) as n_seeds from sae_stability where other_role = 'seed' group by run_id, sae_id
),
found_again as (
    select m.run_id, m.sae_id, m.latent, count(*) filter (where m.stable) as n_stable
    from latent_matches m
    join sae_stability p using (run_id, sae_id, other_sae_id)
    where p.other_role = 'seed'
    group by m.run_id, m.sae_id, m.latent
)
select
    r.model, f.layer, s.site, s.seed, f.latent, f.language, f.target, f.method,
    f.value_select, f.p, f.q, f.value_report, f.low, f.high,
    case when f.method like 'auroc%' then f.value_report - 0.5 else f.value_report end as effect,
    f.firing_rate, f.selected,
    -- True when every other seed has it too; null where no other seed was trained.
    case when b.n_seeds is not null then coalesce(a.n_stable, 0) = b.n_seeds end as stable
from feature_scores f
join latest_runs r on r.run_id = f.run_id
left join run_lineage g on g.run_id = f.run_id and g.ancestor_stage = 'train'
left join saes s on s.run_id = g.ancestor_run_id and s.sae_id = f.sae_id
left join siblings b on b.run_id = f.run_id and b.sae_id = f.sae_id
left join found_again a on a.run_id = f.run_id and a.sae_id = f.sae_id and a.latent = f.latent;
comment on view latents is 'Association of every latent with visible gender or with the stereotype.';
