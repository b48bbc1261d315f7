-- The strongest directions of each matrix in words.
create table singular_directions (
    run_id         varchar not null,
    matrix         varchar not null,
    layer          integer not null,
    head           integer,
    language       varchar,
    direction      integer not null,
    singular_value double not null,
    energy_share   double not null,
    tokens_raised  varchar not null,
    tokens_lowered varchar not null
);
comment on table singular_directions is 'Right singular directions through the unembedding: tokens raised and lowered most, strongest first.';
comment on column singular_directions.energy_share is 'Share of the squared singular values.';
