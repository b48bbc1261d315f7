-- Latents that carry gender in both languages at once: significant in both (q <= .05) and pointing the same way.
-- params: target=visible, layer=, top=20
select layer, latent, target, method, value_en, low_en, high_en, value_ar, low_ar, high_ar, q_en, q_ar
from shared_latents
where significant_in_both and same_direction
    and ($target::varchar is null or target = $target::varchar) and ($layer::integer is null or layer = $layer::integer)
order by least(abs(effect_en), abs(effect_ar)) desc, layer, latent
limit $top::integer;
