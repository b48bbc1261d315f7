-- Per layer and language: how many latents fire, how densely, and how many follow visible gender.
create table language_profiles (
    run_id              varchar not null,
    sae_id              varchar not null,
    layer               integer not null,
    language            varchar not null,
    split               varchar not null,
    n_latents           integer not null,
    n_live              integer not null,
    n_dead              integer not null,
    density             double,
    l0                  double not null,
    n_female            integer not null,
    n_male              integer not null,
    n_neutral           integer not null,
    n_gendered_permuted integer not null,
    n_images            integer not null,
    n_clusters          integer not null
);
comment on table language_profiles is 'One dictionary in one language, at the position that decides the gender.';
comment on column language_profiles.density is 'Mean share of images on which a live latent fires.';
comment on column language_profiles.n_gendered_permuted is 'Control: latents called female or male when the labels are permuted once; must stay near 0.';
