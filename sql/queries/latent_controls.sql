-- Is the count of gendered latents more than chance: learned dictionary and frozen random decoder, true and permuted labels.
-- params: language=
select layer, site, language, dictionary, labels, n_live, n_found, share_found, largest_effect, n_images, split
from gendered_latents
where $language::varchar is null or language = $language::varchar
order by layer, language desc, dictionary desc, labels desc;
