-- Is gender encoded once for both languages? The four rungs of the claim, each between floor and ceiling.
-- params: layer=
select rung, measure, layer, value, low, high, floor, ceiling, p, n_images, n_clusters, note
from claim_ladder
where $layer::integer is null or layer = $layer::integer
order by rung, measure, layer;
