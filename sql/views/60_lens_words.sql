-- What each layer would say at the deciding position: the likeliest tokens per language and kind of image.
create or replace view lens_words as
select r.model, t.layer, t.language, case t.visual_gender when 'F' then 'woman' when 'M' then 'man' when 'A' then 'ambiguous' end as image_shows,
    t.place, t.token, t.mean_probability
from lens_tokens t
join latest_runs r on r.run_id = t.run_id;
comment on view lens_words is 'Likeliest next tokens by layer, probabilities averaged over images.';
