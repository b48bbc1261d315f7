-- How alike the matched random latents are to the chosen ones.
create table matching_balance (
    run_id                  varchar not null,
    sae_id                  varchar not null,
    target                  varchar not null,
    language                varchar not null,
    covariate               varchar not null,
    target_mean             double not null,
    random_mean             double not null,
    standardized_difference double not null
);
comment on table matching_balance is 'Balance of matched random latents; below .1 is alike.';
