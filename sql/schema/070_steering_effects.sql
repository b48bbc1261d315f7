-- What each arm of the intervention does, on both axes and on side effects.
create table steering_effects (
    run_id     varchar not null,
    arm        varchar not null,
    arm_name   varchar not null,
    target     varchar not null,
    layer      integer not null,
    language   varchar not null,
    split      varchar not null,
    strength   double not null,
    metric     varchar not null,
    value      double,
    low        double,
    high       double,
    p          double,
    n_images   integer not null,
    n_clusters integer not null,
    note       varchar
);
comment on table steering_effects is 'Effect of each arm and strength; baseline is arm A0.';
comment on column steering_effects.p is 'Permutation p against matched random latent sets, two-sided.';
