-- Steering effects of every finished run, not only the newest: for comparing models and configurations.
create or replace view all_steering as
select r.model, r.run_id, r.finished_at, e.arm, e.arm_name, e.target, e.layer, e.language, e.split, e.strength, e.metric, e.value, e.low, e.high, e.p, e.n_images, e.n_clusters, e.note
from steering_effects e
join runs r on r.run_id = e.run_id
where r.status = 'done';
comment on view all_steering is 'Steering effects of every finished run.';
