-- One row per trained dictionary.
create table saes (
    run_id            varchar not null,
    sae_id            varchar not null,
    layer             integer not null,
    site              varchar not null,
    architecture      varchar not null,
    d_model           integer not null,
    n_latents         integer not null,
    k                 integer not null,
    seed              bigint not null,
    steps             integer not null,
    train_rows        bigint not null,
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
comment on column saes.fvu is 'Fraction of variance unexplained on rows it was not trained on: ||x - x_hat||^2 / ||x - mean||^2.';
