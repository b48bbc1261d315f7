-- The latents that follow the gender a picture shows (target visible) or the stereotype (target stereotype): ranked on select, valued on report.
-- params: target=visible, language=, layer=, top=20
select layer, latent, language, target, method, value_select, q, value_report, low, high, firing_rate, selected, stable
from latent_ranking
where ($target::varchar is null or target = $target::varchar)
    and ($language::varchar is null or language = $language::varchar)
    and ($layer::integer is null or layer = $layer::integer)
order by abs(case when method like 'auroc%' then value_select - 0.5 else value_select end) desc nulls last, layer, latent, language
limit $top::integer;
