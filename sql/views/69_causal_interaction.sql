-- Pairs of latents ablated one by one and together: how far the joint effect on the gender gap is from the sum.
create or replace view causal_interaction as
select r.model, c.layer, c.language, c.latent_a, c.latent_b, c.effect_a, c.effect_b, c.effect_both, c.interaction, c.low, c.high, c.split, c.n_images,
    c.n_clusters, c.note
from causal_pairs c
join latest_runs r on r.run_id = c.run_id;
comment on view causal_interaction is 'Effects in nats of log P(F) - log P(M); 0 interaction is additive.';
