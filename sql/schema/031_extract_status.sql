-- One row per sample and language: done, or failed with the reason.
create table extract_status (
    run_id    varchar not null,
    sample_id varchar not null,
    language  varchar not null,
    status    varchar not null check (status in ('done', 'failed')),
    reason    varchar,
    n_rows    integer not null
);
comment on table extract_status is 'What became of each sample and language in extract.';
