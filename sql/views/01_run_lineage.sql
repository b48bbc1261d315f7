-- Every run with itself and all runs it was made from.
create or replace view run_lineage as
with recursive lineage (run_id, ancestor_run_id) as (
    select run_id, run_id from runs
    union
    select l.run_id, p.parent
    from lineage l
    join (select run_id, unnest(parents) as parent from runs) p on p.run_id = l.ancestor_run_id
)
select l.run_id, l.ancestor_run_id, r.stage as ancestor_stage
from lineage l
join runs r on r.run_id = l.ancestor_run_id;
comment on view run_lineage is 'Every run with itself and all runs it was made from.';
