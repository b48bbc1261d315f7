-- Rungs L1 to L3 of the claim that both languages share an encoding of gender, with floor and ceiling.
create table language_contrast (
    run_id     varchar not null,
    layer      integer not null,
    rung       varchar not null check (rung in ('L1', 'L2', 'L3')),
    measure    varchar not null,
    value      double,
    low        double,
    high       double,
    floor      double,
    ceiling    double,
    p          double,
    n_images   integer not null,
    n_clusters integer not null,
    note       varchar
);
comment on column language_contrast.p is 'Permutation p against the floor, one-sided (of a cosine: of its size); null where nothing was permuted.';
comment on table language_contrast is 'L1 probes that cross over, L2 gender directions, L3 latents of one joint dictionary. L4, causal transfer, is measured by steering.';
