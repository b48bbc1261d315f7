-- Is the effect more than any latents would do: the ablation against the matched random sets, with the permutation p.
-- params: language=, target=
with arms as (
    select arm, target, layer, language, strength, metric, label, value, p
    from steering_curves
    where arm = 'A3' and split = 'report'
    -- The random sets were drawn at the strength whose arm carries their permutation p.
    qualify row_number() over (partition by target, layer, language, metric order by p is not null desc, strength desc) = 1
),
sets as (
    select target, layer, language, metric, count(value) as n_sets, median(value) as random_median,
        quantile_cont(value, 0.025) as random_low, quantile_cont(value, 0.975) as random_high
    from steering_random
    group by target, layer, language, metric
)
select a.arm, a.strength, target, layer, language, a.label, a.value as arm_value, s.random_median, s.random_low, s.random_high, a.p, s.n_sets
from arms a
join sets s using (target, layer, language, metric)
where ($language::varchar is null or language = $language::varchar) and ($target::varchar is null or target = $target::varchar)
order by a.label, language desc, target;
