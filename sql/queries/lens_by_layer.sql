-- Where does the logit lens see gender: log P(F) - log P(M) at each layer for images of women, men and ambiguous ones.
-- params: language=, layer=
select layer, language, image_shows, gap, gap_low, gap_high, kl_to_final, entropy, n_images, n_clusters
from lens_gap
where ($language::varchar is null or language = $language::varchar) and ($layer::integer is null or layer = $layer::integer)
order by language desc, image_shows, layer;
