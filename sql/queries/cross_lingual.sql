-- How alike English and Arabic are inside, by layer and measure, with floor (chance) and ceiling (within one language).
-- params: layer=
select layer, measure, value, low, high, floor, ceiling, p, n_images, n_clusters, note
from cross_lingual
where $layer::integer is null or layer = $layer::integer
order by measure, layer;
