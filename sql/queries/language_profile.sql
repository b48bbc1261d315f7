-- Per layer and language: live and dead latents, and how many follow women, men, or neither.
-- params: language=
select layer, language, n_live, n_dead, density, l0, n_female, n_male, n_neutral, n_gendered_permuted, n_images, n_clusters
from language_profile
where $language::varchar is null or language = $language::varchar
order by layer, language desc;
