-- What the model does: outcomes, stereotype, default, amplification; each with an image-cluster interval.
create table behavior_metrics (
    run_id     varchar not null,
    metric     varchar not null,
    language   varchar not null,
    context    varchar,
    gender     varchar,
    value      double,
    low        double,
    high       double,
    n_images   integer not null,
    n_clusters integer not null,
    note       varchar
);
comment on table behavior_metrics is 'Behaviour of the model, each number with a 95 % image-cluster interval.';
comment on column behavior_metrics.value is 'Null, with the reason in note, where it cannot be computed.';
