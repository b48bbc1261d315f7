-- What each component of the decoder adds to logit(woman) - logit(man) at the deciding position, per language and kind of image; layer is null for the embeddings.
create or replace view component_attribution as
select r.model, a.layer, a.component, a.language,
    case a.visual_gender when 'F' then 'woman' when 'M' then 'man' when 'A' then 'ambiguous' else 'woman minus man' end as image_shows,
    a.contribution, a.low, a.high, a.total, a.sum_error, a.n_images, a.n_clusters
from logit_attribution a
join latest_runs r on r.run_id = a.run_id;
comment on view component_attribution is 'Direct logit attribution; the contributions of one language and kind of image sum to total.';
