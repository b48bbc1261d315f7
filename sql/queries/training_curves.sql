-- How the dictionaries learned: FVU, L0, dead share, gradient norm and speed by step.
-- params: layer=
select layer, site, seed, role, k, n_latents, step, loss, fvu, l0, dead_share, learning_rate, gradient_norm, tokens_per_second
from training_curves
where $layer::integer is null or layer = $layer::integer
order by layer, role, seed, k, n_latents, step;
