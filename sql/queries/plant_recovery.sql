-- Was the truth found again? The planted share of women against the recovered one, largest error first.
-- params: language=, top=100
select profession, woman_ar, language, planted, recovered, low, high, error, interval_covers_plant, n_images
from plant_recovery
where $language::varchar is null or language = $language::varchar
order by abs(error) desc nulls last, profession, language
limit $top::integer;
