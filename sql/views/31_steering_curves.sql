-- Dose response of every arm on every metric; arm A6 is the band (2.5 % to 97.5 %) of the matched random sets.
create or replace view steering_curves as
select
    r.model, e.arm, e.arm_name, e.target, e.layer, e.language, e.split, e.strength, e.metric, n.label, n.unit, e.value, e.low, e.high, e.p, e.n_images, e.n_clusters, e.note
from steering_effects e
join latest_runs r on r.run_id = e.run_id
left join metric_names n on n.metric = e.metric
where e.arm <> 'A6'
union all by name
select
    x.model, 'A6' as arm, 'matched random latents' as arm_name, x.target, x.layer, x.language, 'report' as split, null::double as strength, x.metric, n.label, n.unit,
    quantile_cont(x.value, 0.5) as value, quantile_cont(x.value, 0.025) as low, quantile_cont(x.value, 0.975) as high, null::double as p,
    null::integer as n_images, null::integer as n_clusters, count(*) || ' random sets; median and 95 % range' as note
from steering_random x
left join metric_names n on n.metric = x.metric
where x.value is not null
group by x.model, x.target, x.layer, x.language, x.metric, n.label, n.unit;
comment on view steering_curves is 'Dose response of every arm; A6 is the band of the matched random sets.';
