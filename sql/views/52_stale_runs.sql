-- Shown runs that were made from another run than the one shown of that stage: run them again to bring all numbers to one configuration.
create or replace view stale_runs as
select r.stage, r.run_id, r.finished_at, g.ancestor_stage as made_from_stage, g.ancestor_run_id as made_from, newest.run_id as shown_run
from latest_runs r
join run_lineage g on g.run_id = r.run_id and g.ancestor_run_id <> r.run_id
join latest_runs newest on newest.stage = g.ancestor_stage
where newest.run_id <> g.ancestor_run_id;
comment on view stale_runs is 'Shown runs made from a run that is not itself shown.';
