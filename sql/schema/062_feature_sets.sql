-- The latents chosen for an intervention, in order.
create table feature_sets (
    run_id   varchar not null,
    set_name varchar not null,
    sae_id   varchar not null,
    layer    integer not null,
    language varchar not null,
    target   varchar not null,
    rank     integer not null,
    latent   integer not null,
    score    double not null
);
comment on table feature_sets is 'Latents chosen for an intervention, best first.';
