-- One row per run of a stage: what it was asked for, when, how long, how big.
create table runs (
    run_id          varchar not null primary key,
    stage           varchar not null,
    fingerprint     varchar not null check (length(fingerprint) = 12),
    stage_version   integer not null,
    model           varchar,
    status          varchar not null check (status in ('running', 'done', 'failed')),
    started_at      timestamptz not null,
    finished_at     timestamptz,
    seconds         double check (seconds >= 0),
    cpu_seconds     double check (cpu_seconds >= 0),
    n_rows          bigint check (n_rows >= 0),
    rows_per_second double,
    peak_memory_mib double,
    saebias_version varchar not null,
    parents         varchar[] not null,
    config          json not null
);
comment on table runs is 'One row per run of a stage.';
comment on column runs.fingerprint is 'Digest of stage, version, the configuration slices it reads, its parents and its outside inputs.';
comment on column runs.seconds is 'Wall-clock seconds of work, summed over the attempts that ended (a killed one leaves no count).';
comment on column runs.cpu_seconds is 'Processor time of the process while the stage ran, all threads together: what the work costs on a busy machine too.';
comment on column runs.n_rows is 'Rows written to all tables of the stage; an activation row counts once, by its row of the index.';
comment on column runs.peak_memory_mib is 'Largest resident memory of the process while the stage ran, MiB.';
