-- Samples that extract neither finished nor recorded as failed.
select g.run_id, s.sample_id, l.language
from latest_runs r
join run_lineage g on g.run_id = r.run_id and g.ancestor_stage = 'prepare'
join samples s on s.run_id = g.ancestor_run_id
cross join (select distinct run_id, language from extract_status) l
left join extract_status e on e.run_id = r.run_id and e.sample_id = s.sample_id and e.language = l.language
where r.stage = 'extract' and l.run_id = r.run_id and e.sample_id is null;
