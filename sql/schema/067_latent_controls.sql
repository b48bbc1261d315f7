-- Latents that look gendered, also where none can be.
create table latent_controls (
    run_id         varchar not null,
    sae_id         varchar not null,
    layer          integer not null,
    role           varchar not null check (role in ('main', 'control')),
    language       varchar not null,
    split          varchar not null,
    labels         varchar not null check (labels in ('true', 'permuted')),
    n_live         integer not null,
    n_found        integer not null,
    share_found    double,
    largest_effect double not null,
    n_images       bigint not null,
    note           varchar
);
comment on table latent_controls is 'Latents that differ between women and men at q <= .05: learned dictionary and frozen random decoder, true and permuted labels.';
comment on column latent_controls.largest_effect is 'Largest |AUROC - .5| of a latent.';
