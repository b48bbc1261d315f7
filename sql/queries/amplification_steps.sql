-- Who adds the skew: training captions, the model's probabilities, sampling or greedy decoding; level and step, each with an interval.
-- params: language=
select language, step, skew, low, high, added, added_low, added_high, n_images, n_clusters, note
from amplification
where $language::varchar is null or language = $language::varchar
order by language desc, place;
