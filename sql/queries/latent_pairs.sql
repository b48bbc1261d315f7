-- Pairs of chosen latents whose correlation differs most between pictures of women and of men.
-- params: language=, layer=, top=20
select layer, language, latent_a, latent_b, pmi, n_both, correlation_women, correlation_men, z, p, q
from latent_graph
where p is not null and ($language::varchar is null or language = $language::varchar) and ($layer::integer is null or layer = $layer::integer)
order by p, layer, latent_a, latent_b
limit $top::integer;
