-- How alike English and Arabic are inside: directions and representations, with floor and ceiling.
create table alignment (
    run_id     varchar not null,
    layer      integer not null,
    measure    varchar not null,
    value      double,
    low        double,
    high       double,
    floor      double,
    ceiling    double,
    n_images   integer not null,
    n_clusters integer not null,
    note       varchar,
    p          double
);
comment on table alignment is 'Cross-lingual alignment per layer and measure.';
comment on column alignment.p is 'Share of permutations that reach the value, one-sided; null where nothing was permuted for it.';
