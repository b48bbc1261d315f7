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
    seed              bigint not null,
    steps             integer not null,
    kept_step         integer not null,
    train_rows        bigint not null,
    outlier_rows      bigint not null,
    learning_rate     double not null,
    fvu               double not null,
    l0                double not null,
    dead_share        double not null,
    tokens_per_second double not null,
    seconds           double not null,
    frozen_decoder    boolean not null,
    path              varchar not null,
    primary key (run_id, sae_id)
);
comment on table saes is 'One row per trained sparse autoencoder.';
comment on column saes.role is 'main: analysed and steered; seed: differs in the initialisation alone; sweep: another k or width; control: frozen random decoder.';
comment on column saes.kept_step is 'The step whose weights were kept: the last, unless validation images were explained better before.';
comment on column saes.outlier_rows is 'Rows left out of training because of their norm.';
comment on column saes.fvu is 'Fraction of variance unexplained on rows it was not trained on: ||x - x_hat||^2 / ||x - mean||^2.';
