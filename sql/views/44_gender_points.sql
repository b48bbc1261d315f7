-- Decision-token activations on three axes: the English gender direction, the Arabic one made orthogonal to it, the largest variation left.
create or replace view gender_points as
select r.model, g.layer, g.language, case g.visual_gender when 'F' then 'woman' when 'M' then 'man' when 'A' then 'ambiguous' end as image_shows,
    replace(g.context, '_', ' ') as profession, g.sample_id, g.x, g.y, g.z
from gender_projections g
join latest_runs r on r.run_id = g.run_id;
comment on view gender_points is 'Points of the 3-D figure.';
