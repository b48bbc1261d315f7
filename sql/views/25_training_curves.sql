-- The training curve of each dictionary: FVU, L0 and dead share by step.
create or replace view training_curves as
select r.model, s.layer, s.site, s.seed, s.k, s.n_latents, s.role, s.frozen_decoder, h.step, h.fvu, h.l0, h.dead_share, h.loss, h.learning_rate, h.gradient_norm, h.tokens_per_second
from sae_history h
join latest_runs r on r.run_id = h.run_id
join saes s on s.run_id = h.run_id and s.sae_id = h.sae_id;
comment on view training_curves is 'Training curves of the dictionaries.';
