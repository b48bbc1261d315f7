-- The effects of matched random latent sets: one row per set, the null distribution of each arm.
create or replace view steering_random as
select r.model, x.set_no, x.target, x.layer, x.language, x.strength, x.metric, x.value
from steering_random_sets x
join latest_runs r on r.run_id = x.run_id;
comment on view steering_random is 'Effects of matched random latent sets.';
