-- Every written form that was matched in the file scored last, with the rule, whether it was counted, and in how many captions.
-- params: language=, counted=, top=100
select f.side, f.language, f.form, f.gender, f.rule, f.counted, f.captions
from score_forms f
join latest_runs r on r.run_id = f.run_id
where ($language::varchar is null or f.language = $language::varchar) and ($counted::varchar is null or f.counted = $counted::boolean)
order by f.captions desc, f.side desc, f.language, f.form, f.rule, f.gender
limit $top::integer;
