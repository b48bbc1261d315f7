-- Two latents ablated one by one and together: effects on the gender gap, and how far the joint one is from the sum.
-- params: language=
select layer, language, latent_a, latent_b, effect_a, effect_b, effect_both, interaction, low, high, n_images, n_clusters
from causal_interaction
where $language::varchar is null or language = $language::varchar
order by language desc, abs(interaction) desc;
