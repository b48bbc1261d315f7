-- What was said while a stage ran, one row per line of its log.
create table log_events (
    run_id varchar not null,
    logged_at timestamptz not null,
    level  varchar not null,
    event  varchar not null,
    fields json not null
);
comment on table log_events is 'The log of every run.';
