-- Per layer: is visible gender encoded once for both languages, once for each, or both ways?
create or replace view language_verdict as
select r.model, v.layer, v.verdict, v.angle_degrees, v.split, v.n_images, v.n_clusters, v.note
from language_verdicts v
join latest_runs r on r.run_id = v.run_id;
comment on view language_verdict is 'Verdict per layer with the angle between the gender directions of the two languages.';
