-- What would each layer say: the likeliest next tokens at the deciding position.
-- params: language=, layer=, places=3
select layer, language, image_shows, place, token, mean_probability
from lens_words
where ($language::varchar is null or language = $language::varchar) and ($layer::integer is null or layer = $layer::integer) and place <= $places::integer
order by language desc, image_shows, layer, place;
