-- Steering effects that exist on the images that chose them and on no others, and latents chosen without a value on the report split.
select run_id, 'arm ' || arm as what, target, language, metric
from steering_effects
where coalesce(note, '') not like 'choice of layer%'
group by run_id, arm, target, layer, language, metric
having bool_or(split = 'select') and not bool_or(split = 'report')
union all
select run_id, 'latent ' || latent, target, language, method
from feature_scores
where selected and value_report is null;
