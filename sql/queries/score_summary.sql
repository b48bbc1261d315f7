-- What a captions file says about gender: shares, rates per 100 words, prevalence corrected for labelling errors, changes, alarms; of the file scored last.
-- params: language=, measure=
select s.side, s.language, s.context, s.measure, s.value, s.low, s.high, s.hits, s.total, s.note
from score_summary s
join latest_runs r on r.run_id = s.run_id
where ($language::varchar is null or s.language = $language::varchar) and ($measure::varchar is null or s.measure = $measure::varchar)
order by s.place;
