-- Finished runs made from a run that the catalogue does not know.
select r.run_id, p.parent
from (select run_id, unnest(parents) as parent from runs where status = 'done') p
join runs r using (run_id)
where p.parent not in (select run_id from runs);
