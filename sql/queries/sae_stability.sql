-- Would another seed find the same latents: share found again by one-to-one matching, beside chance and the frozen random decoder.
-- params: layer=
select layer, site, seed, compared_with, other_seed, n_live, n_matched, n_stable, stable_share, mean_cosine, mean_correlation, null_cosine, null_cosine_high, n_rows
from dictionary_stability
where $layer::integer is null or layer = $layer::integer
order by layer, compared_with desc, other_seed;
