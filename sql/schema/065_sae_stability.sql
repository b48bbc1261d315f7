-- How many latents of a dictionary another one of the same hook point has too.
create table sae_stability (
    run_id           varchar not null,
    sae_id           varchar not null,
    other_sae_id     varchar not null,
    layer            integer not null,
    other_role       varchar not null check (other_role in ('seed', 'control')),
    n_latents        integer not null,
    n_live           integer not null,
    n_matched        integer not null,
    n_stable         integer not null,
    stable_share     double not null,
    mean_cosine      double not null,
    mean_correlation double not null,
    null_cosine      double not null,
    null_cosine_high double not null,
    n_rows           bigint not null
);
comment on table sae_stability is 'One-to-one matching of a dictionary with one of another seed, and with the frozen random decoder as a null.';
comment on column sae_stability.stable_share is 'Share of live latents whose partner has a decoder cosine of .7 and a correlation of activations of .5 at least, above chance at level .01.';
comment on column sae_stability.null_cosine is 'Mean cosine of the pairs found with random directions of the same covariance.';
comment on column sae_stability.null_cosine_high is '99th percentile of those cosines.';
