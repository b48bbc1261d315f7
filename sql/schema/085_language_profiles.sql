-- Per layer and language: how many latents fire, how densely, and how many follow the gender shown, or the stereotype where none is shown.
create table language_profiles (
    run_id                varchar not null,
    sae_id                varchar not null,
    layer                 integer not null,
    language              varchar not null,
    split                 varchar not null,
    n_latents             integer not null,
    n_live                integer not null,
    n_dead                integer not null,
    density               double,
    l0                    double not null,
    n_female              integer not null,
    n_male                integer not null,
    n_neutral             integer not null,
    n_gendered_permuted   integer not null,
    n_stereotype_female   integer,
    n_stereotype_male     integer,
    n_stereotype_permuted integer,
    stereotype_spread     double,
    n_contexts            integer,
    n_images              integer not null,
    n_clusters            integer not null,
    stereotype_note       varchar
);
comment on table language_profiles is 'One dictionary in one language, at the position that decides the gender.';
comment on column language_profiles.density is 'Mean share of images on which a live latent fires.';
comment on column language_profiles.n_gendered_permuted is 'Control: latents called female or male when the labels are permuted once; must stay near 0.';
comment on column language_profiles.n_female is 'Latents that fire more on images that show a woman: they see the picture, which is no bias.';
comment on column language_profiles.n_stereotype_female is 'Latents that, on images that show no gender, fire more in the contexts where the model says woman: q <= 0.05 over all latents; null where not asked.';
comment on column language_profiles.n_stereotype_permuted is 'Control: latents called so when contexts are exchanged once; must stay near 0.';
comment on column language_profiles.stereotype_spread is 'Standard deviation of P(woman) over contexts on these images.';
comment on column language_profiles.stereotype_note is 'Why no latent can follow a stereotype here, or why that was not asked.';
