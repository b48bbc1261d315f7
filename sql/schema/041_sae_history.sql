-- The training curve of each dictionary.
create table sae_history (
    run_id            varchar not null,
    sae_id            varchar not null,
    step              integer not null,
    loss              double not null,
    fvu               double not null,
    l0                double not null,
    dead_share        double not null,
    learning_rate     double not null,
    gradient_norm     double not null,
    tokens_per_second double not null
);
comment on table sae_history is 'Training curves of the sparse autoencoders.';
comment on column sae_history.gradient_norm is 'Length of the gradient before clipping.';
