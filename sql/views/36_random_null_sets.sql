-- Each matched random set beside the value of the ablation that it is the null of; also the data of the figure.
create or replace view random_null_sets as
with arms as (
    select arm, target, layer, language, strength, metric, value, p
    from steering_curves
    where arm = 'A3' and split = 'report'
)
select x.model, x.target, x.layer, x.language, x.metric, n.label, x.set_no, x.value, a.arm, a.strength, a.value as arm_value, a.p
from steering_random x
left join arms a on a.target = x.target and a.layer = x.layer and a.language = x.language and a.strength = x.strength and a.metric = x.metric
left join metric_names n on n.metric = x.metric;
comment on view random_null_sets is 'Matched random sets beside the intervention they are the null of.';
