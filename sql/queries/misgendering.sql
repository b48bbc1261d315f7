-- How often is the wrong gender said, by gender shown, language and profession; profession is empty for all together.
-- params: language=, top=50
select language, image_shows, profession, share, low, high, n_images, n_clusters, note
from outcomes
where outcome = 'wrong' and ($language::varchar is null or language = $language::varchar)
order by profession is not null, share desc nulls last, language, image_shows, profession
limit $top::integer;
