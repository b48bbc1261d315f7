-- Two latents ablated one by one and together: departure of the joint effect on the gender gap from the sum.
create table causal_pairs (
    run_id      varchar not null,
    sae_id      varchar not null,
    layer       integer not null,
    language    varchar not null,
    latent_a    integer not null,
    latent_b    integer not null,
    split       varchar not null,
    effect_a    double not null,
    effect_b    double not null,
    effect_both double not null,
    interaction double not null,
    low         double,
    high        double,
    n_images    integer not null,
    n_clusters  integer not null,
    note        varchar
);
comment on table causal_pairs is 'Mean change of log P(F) - log P(M), nats, when latents at the deciding position go to their mean; 0 interaction is additive.';
