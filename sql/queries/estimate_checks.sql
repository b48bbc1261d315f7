-- Can the scores that chose latents be trusted: their rank correlation with, and recall of, the exact single-latent effects.
-- params: target=, language=
select language, target, layer, method, rank_correlation, low, high, k, recall, n_latents, n_images, note
from estimate_agreement
where ($target::varchar is null or target = $target::varchar) and ($language::varchar is null or language = $language::varchar)
order by language, target, method;
