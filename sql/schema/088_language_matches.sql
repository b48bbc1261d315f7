-- Latents of one language matched one to one with latents of the other over the same images.
create table language_matches (
    run_id         varchar not null,
    sae_id         varchar not null,
    layer          integer not null,
    latent_en      integer not null,
    latent_ar      integer not null,
    correlation    double not null,
    score          double,
    decoder_cosine double,
    threshold      double not null,
    is_match       boolean not null,
    is_same_latent boolean not null,
    split          varchar not null,
    n_images       integer not null,
    n_clusters     integer not null,
    note           varchar
);
comment on table language_matches is 'Hungarian matching of codes over paired images; threshold is the 95th percentile of the best pair of each matching with broken pairs.';
comment on column language_matches.score is 'Correlation over picture groups of what the pictures of a group share, noise of single pictures taken off both sides; 1: the same quantity. May exceed 1.';
