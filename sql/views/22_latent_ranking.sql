-- The latents of each layer, ranked on the select split by the strength of their association, with their value on the report split.
create or replace view latent_ranking as
select
    model, layer, language, target, method,
    row_number() over (
        partition by layer, seed, language, target, method
        order by abs(case when method like 'auroc%' then value_select - 0.5 else value_select end) desc nulls last, latent
    ) as rank,
    latent, value_select, q, value_report, low, high, effect, firing_rate, selected, stable
from latents
where value_select is not null;
comment on view latent_ranking is 'Latents of each layer, best first; ranked on select, valued on report.';
