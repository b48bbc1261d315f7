-- One row per input row that was set aside, with the reason.
create table sample_problems (
    run_id        varchar not null,
    source        varchar not null,
    row_number    bigint not null,
    sample_id     varchar,
    "column"      varchar,
    value         varchar,
    reason        varchar not null
);
comment on table sample_problems is 'Input rows set aside, with the reason.';
