-- The partner of each live latent in another dictionary of the same hook point.
create table latent_matches (
    run_id       varchar not null,
    sae_id       varchar not null,
    other_sae_id varchar not null,
    layer        integer not null,
    latent       integer not null,
    other_latent integer not null,
    cosine       double not null,
    correlation  double,
    p            double not null,
    stable       boolean not null
);
comment on table latent_matches is 'Latents matched one to one between dictionaries of one hook point: decoder cosine and correlation of activations.';
comment on column latent_matches.p is 'Share of chance pairs with as high a cosine.';
