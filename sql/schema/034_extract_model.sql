-- The model that the activations are of: what its name stood for when they were made.
create table extract_model (
    run_id   varchar not null primary key,
    name     varchar not null,
    revision varchar,
    digest   varchar not null,
    dtype    varchar not null,
    n_layers integer not null check (n_layers > 0),
    d_model  integer not null check (d_model > 0)
);
comment on table extract_model is 'The model of an extract run: one row per run.';
comment on column extract_model.revision is 'The revision of a hub model that the configuration asked for; null where it asked for none.';
comment on column extract_model.digest is 'The commit of a hub model that was loaded; for a local model the SHA-256 of its weights.';
comment on column extract_model.dtype is 'Number format that it computed in.';
