-- Quality of each dictionary per token kind, language and split.
create table sae_quality (
    run_id          varchar not null,
    sae_id          varchar not null,
    layer           integer not null,
    token_kind      varchar not null,
    language        varchar not null,
    split           varchar not null,
    fvu             double,
    l0              double not null,
    dead_share      double not null,
    density_median  double not null,
    density_high    double not null,
    decoder_cosine  double,
    nearest_cosine  double,
    n_rows          bigint not null,
    note            varchar
);
comment on table sae_quality is 'Centred FVU, L0 and dead share per token kind and language, on images never trained on; without the prompt tokens that are the same in every image.';
comment on column sae_quality.density_median is 'Median over latents of the share of rows on which a latent is active.';
comment on column sae_quality.density_high is '95th percentile over latents of that share.';
comment on column sae_quality.decoder_cosine is 'Mean over latents of the cosine between encoder column and decoder row.';
comment on column sae_quality.nearest_cosine is 'Mean over latents of the cosine to the most similar other decoder row: near 1, latents repeat each other.';
