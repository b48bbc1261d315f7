-- Are the dictionaries good: centred FVU, L0, dead share per layer, token kind and language, on images never trained on.
-- params: layer=, language=
select layer, site, architecture, n_latents, k, seed, role, token_kind, language, split, fvu, l0, dead_share, density_median, density_high, decoder_cosine, nearest_cosine, n_rows, note
from sae_quality_by_layer
where ($layer::integer is null or layer = $layer::integer) and ($language::varchar is null or language = $language::varchar)
order by layer, role, seed, k, n_latents, token_kind, language desc, split;
