-- One row per matched random set: the null distribution of each effect.
create table steering_random_sets (
    run_id   varchar not null,
    set_no   integer not null,
    target   varchar not null,
    layer    integer not null,
    language varchar not null,
    strength double not null,
    metric   varchar not null,
    value    double
);
comment on table steering_random_sets is 'Effects of matched random latent sets (arm A6).';
