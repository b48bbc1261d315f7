-- Where does the lens see gender: log P(F) - log P(M) at each layer for images of women, men and ambiguous ones, with the ranks of the gendered tokens.
-- params: language=, layer=, lens=logit
select lens, layer, language, image_shows, gap, gap_low, gap_high, kl_to_final, entropy, female_rank, male_rank, n_images, n_clusters
from lens_gap
where ($language::varchar is null or language = $language::varchar) and ($layer::integer is null or layer = $layer::integer)
    and ($lens::varchar is null or lens = $lens::varchar)
order by lens, language desc, image_shows, layer;
