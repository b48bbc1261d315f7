-- Near-duplicate pictures that stand in more than one split: what is chosen on one would be reported on its twin.
select run_id, cluster_id, list_sort(list(distinct split)) as splits
from samples
group by run_id, cluster_id
having count(distinct split) > 1;
