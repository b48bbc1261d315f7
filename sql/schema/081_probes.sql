-- Linear probes of gender per layer, language and token kind, with controls.
create table probes (
    run_id            varchar not null,
    layer             integer,
    train_language    varchar not null,
    test_language     varchar not null,
    token_kind        varchar not null,
    baseline          varchar,
    balanced_accuracy double,
    low               double,
    high              double,
    auroc             double,
    control_accuracy  double,
    selectivity       double,
    permuted_accuracy double,
    bits              double,
    n_images          integer not null,
    n_clusters        integer not null,
    note              varchar
);
comment on table probes is 'Linear probes of visible gender: folds grouped by drawing, scaling inside the fold.';
comment on column probes.selectivity is 'Balanced accuracy minus that on a control task of random labels.';
comment on column probes.bits is 'Online description length per label, bits; 1: nothing can be read.';
