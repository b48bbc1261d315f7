-- What is said about images that show a woman or a man: correct, wrong, neutral, mixed or no person, as shares.
-- params: language=
select language, image_shows, outcome, share, low, high, n_images, n_clusters, note
from outcomes
where profession is null and ($language::varchar is null or language = $language::varchar)
order by language desc, image_shows, list_position(['correct', 'wrong', 'neutral', 'mixed', 'no person'], outcome);
