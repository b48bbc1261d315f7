-- Is the model biased? Every headline number per language, with its 95 % interval and whether the interval leaves out "nothing".
-- params: language=
select label, language, image_shows, value, low, high, unit, interval_excludes_null, n_images, n_clusters, note
from bias_summary
where $language::varchar is null or language = $language::varchar
order by place, language desc, image_shows;
