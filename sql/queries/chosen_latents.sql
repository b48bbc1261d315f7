-- The latents that the interventions used, best first, with their value on images never used to choose.
-- params: target=, language=
select set_name, target, language, layer, rank, latent, score, method, value_report, low, high, firing_rate, stable
from chosen_latents
where ($target::varchar is null or target = $target::varchar) and ($language::varchar is null or language = $language::varchar)
order by set_name, rank;
