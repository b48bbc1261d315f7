-- How alike English and Arabic are inside, by layer and measure, each with its floor (chance) and ceiling (within one language).
create or replace view cross_lingual as
select r.model, a.layer, a.measure, a.value, a.low, a.high, a.floor, a.ceiling, a.n_images, a.n_clusters, a.note, a.p
from alignment a
join latest_runs r on r.run_id = a.run_id;
comment on view cross_lingual is 'Cross-lingual alignment with floor and ceiling.';
