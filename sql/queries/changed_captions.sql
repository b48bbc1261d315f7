-- Captions before and after an intervention, where they differ.
-- params: language=, target=stereotype, arm=, top=20
select arm, target, strength, language, profession, image_shows, caption_before, caption_after, sample_id
from changed_captions
where ($language::varchar is null or language = $language::varchar) and ($target::varchar is null or target = $target::varchar)
    and ($arm::varchar is null or arm = $arm::varchar)
order by sample_id, language desc, arm, strength
limit $top::integer;
