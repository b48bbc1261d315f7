-- The runs that the latest command worked with: one per stage; the views with people names show these.
create table current_runs (
    stage  varchar not null primary key,
    run_id varchar not null
);
comment on table current_runs is 'The runs of the configuration used last: what the views show.';
