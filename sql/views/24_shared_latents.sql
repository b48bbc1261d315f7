-- Latents of the joint dictionaries in both languages: their association with gender in English beside that in Arabic.
create or replace view shared_latents as
select
    en.model, en.layer, en.seed, en.latent, en.target, en.method,
    en.value_report as value_en, en.low as low_en, en.high as high_en, en.q as q_en,
    ar.value_report as value_ar, ar.low as low_ar, ar.high as high_ar, ar.q as q_ar,
    en.effect as effect_en, ar.effect as effect_ar,
    en.effect * ar.effect > 0 as same_direction,
    en.q <= 0.05 and ar.q <= 0.05 as significant_in_both
from latents en
join latents ar using (layer, seed, latent, target, method)
where en.language = 'en' and ar.language = 'ar';
comment on view shared_latents is 'Each latent with its English and Arabic association.';
