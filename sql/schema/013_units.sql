-- One row per finished unit of work of a run.
create table units (
    run_id      varchar not null,
    unit        varchar not null,
    seconds     double not null,
    finished_at timestamptz not null,
    n_files     integer not null,
    n_bytes     bigint not null
);
comment on table units is 'Finished units of work with their time and size on disk.';
