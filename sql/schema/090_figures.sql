-- The figures drawn, each with the CSV it was drawn from.
create table figures (
    run_id   varchar not null,
    name     varchar not null,
    title    varchar not null,
    path     varchar not null,
    csv_path varchar not null,
    n_points integer not null
);
comment on table figures is 'Figures, each with its data.';
