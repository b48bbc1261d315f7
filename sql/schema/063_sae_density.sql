-- How many latents are active on which share of the rows.
create table sae_density (
    run_id    varchar not null,
    sae_id    varchar not null,
    layer     integer not null,
    low       double not null,
    high      double not null,
    n_latents bigint not null
);
comment on table sae_density is 'Histogram of latent densities on images never trained on; bins of equal width on a log scale, dead latents in none.';
comment on column sae_density.low is 'Smallest share of rows of the bin.';
