-- What the picture's tokens stand near, in words, layer by layer.
-- params: layer=, image_shows=
select layer, sample_id, profession, image_shows, position, token, share, cosine
from image_words
where ($layer::integer is null or layer = $layer::integer) and ($image_shows::varchar is null or image_shows = $image_shows::varchar)
order by sample_id, layer, position;
