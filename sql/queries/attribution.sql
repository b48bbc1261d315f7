-- Which component writes the gender: what embeddings, attention and MLP of each layer add to logit(woman) - logit(man) on one kind of image.
-- params: language=, image_shows=woman minus man
select layer, component, language, image_shows, contribution, low, high, total, n_images, n_clusters
from component_attribution
where ($language::varchar is null or language = $language::varchar) and ($image_shows::varchar is null or image_shows = $image_shows::varchar)
order by language desc, image_shows desc, layer nulls first, component;
