-- Per layer and language: live and dead latents, how many follow the gender shown, and how many the stereotype where none is shown.
-- params: language=
select layer, language, n_live, n_dead, density, l0, n_female, n_male, n_neutral, n_gendered_permuted, n_stereotype_female, n_stereotype_male, n_stereotype_permuted,
    stereotype_spread, stereotype_note, n_images, n_clusters
from language_profile
where $language::varchar is null or language = $language::varchar
order by layer, language desc;
