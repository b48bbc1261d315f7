-- One row per trained dictionary.
create table saes (
    run_id            varchar not null,
    sae_id            varchar not null,
    layer             integer not null,
    site              varchar not null,
    role              varchar not null check (role in ('main', 'seed', 'sweep', 'control')),
    architecture      varchar not null,
    d_model           integer not null,
    n_latents         integer not null,
    k                 integer not null,
    seed              bigint,
    steps             integer,
    kept_step         integer,
    train_rows        bigint,
    outlier_rows      bigint,
    learning_rate     double,
    fvu               double not null,
    l0                double not null,
    dead_share        double not null,
    tokens_per_second double,
    seconds           double,
    frozen_decoder    boolean not null,
    imported_from     varchar,
    path              varchar not null,
    primary key (run_id, sae_id)
);
comment on table saes is 'One row per trained sparse autoencoder.';
comment on column saes.role is 'main: analysed and steered; seed: differs in the initialisation alone; sweep: another k or width; control: frozen random decoder.';
comment on column saes.kept_step is 'The step whose weights were kept: the last, unless validation images were explained better before.';
comment on column saes.outlier_rows is 'Rows left out of training because of their norm.';
comment on column saes.fvu is 'Fraction of variance unexplained on rows it was not trained on: ||x - x_hat||^2 / ||x - mean||^2.';
comment on column saes.seed is 'Seed of the initialisation; empty, like steps, rows, learning rate and time, for an imported dictionary, whose training is not known here.';
comment on column saes.imported_from is 'Library and folder of a dictionary that was not trained here but imported.';
