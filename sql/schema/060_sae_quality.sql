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
    decoder_cosine  double,
    n_rows          bigint not null,
    note            varchar
);
comment on table sae_quality is 'Centred FVU, L0 and dead share per token kind and language, on images never trained on.';
