-- Latents that carry gender in both languages or in one, strongest first, with the evidence.
-- params: verdict=, layer=, top=30
select layer, latent, verdict, auroc_en, low_en, high_en, q_en, auroc_ar, low_ar, high_ar, q_ar
from latent_language
where ($verdict::varchar is null or verdict = $verdict::varchar) and ($layer::integer is null or layer = $layer::integer)
order by greatest(abs(auroc_en - 0.5), abs(auroc_ar - 0.5)) desc, layer, latent
limit $top::integer;
