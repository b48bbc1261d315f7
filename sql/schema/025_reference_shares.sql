-- Reference share of women per context: planted, from training captions, or from labour statistics.
create table reference_shares (
    run_id   varchar not null,
    context  varchar not null,
    language varchar not null,
    source   varchar not null,
    p_female double not null check (p_female between 0 and 1)
);
comment on table reference_shares is 'Reference share of women per context and language, with its source.';
