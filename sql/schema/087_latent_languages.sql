-- Every latent: carries gender in both languages, in one only, or unclear, with the evidence.
create table latent_languages (
    run_id     varchar not null,
    sae_id     varchar not null,
    layer      integer not null,
    latent     integer not null,
    verdict    varchar not null check (verdict in ('shared', 'en_only', 'ar_only', 'unclear', 'none')),
    auroc_en   double not null,
    low_en     double,
    high_en    double,
    q_en       double not null,
    auroc_ar   double not null,
    low_ar     double,
    high_ar    double,
    q_ar       double not null,
    q_both     double not null,
    split      varchar not null,
    n_images   integer not null,
    n_clusters integer not null
);
comment on table latent_languages is 'Shared: associated in both, same direction (BH on the larger p). One only: the other language shown negligible by equivalence (90 % interval).';
