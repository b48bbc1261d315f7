-- What the model writes: greedy captions in both languages beside the reference, with the exact P(woman).
-- params: profession=, image_shows=, top=20
select sample_id, profession, image_shows, greedy_en, p_female_en, greedy_ar, p_female_ar, caption_en, caption_ar
from caption_examples
where ($profession::varchar is null or profession = $profession::varchar) and ($image_shows::varchar is null or image_shows = $image_shows::varchar)
order by sample_id
limit $top::integer;
