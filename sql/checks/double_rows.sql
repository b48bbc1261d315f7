-- Numbers that stand twice under one name.
select 'behavior_metrics' as "table", run_id, metric as what, language, context, gender, count(*) as n
from behavior_metrics group by all having count(*) > 1
union all
select 'exact_probabilities', run_id, sample_id, language, null, null, count(*) from exact_probabilities group by all having count(*) > 1
union all
select 'steering_effects', run_id, arm || ' ' || arm_name || ' ' || target || ' ' || metric || ' ' || strength || coalesce(' ' || note, ''), language, split, layer::varchar, count(*)
from steering_effects group by all having count(*) > 1;
