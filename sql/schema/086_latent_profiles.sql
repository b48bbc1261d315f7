-- Every latent in each language: how it fires, and whether it follows women, men, or neither.
create table latent_profiles (
    run_id                 varchar not null,
    sae_id                 varchar not null,
    layer                  integer not null,
    latent                 integer not null,
    language               varchar not null,
    gender_group           varchar not null check (gender_group in ('female', 'male', 'neutral', 'dead')),
    firing_rate            double not null,
    active_mean            double,
    auroc                  double,
    low                    double,
    high                   double,
    p                      double not null,
    q                      double not null,
    stereotype_group       varchar check (stereotype_group in ('female', 'male', 'neutral', 'dead')),
    stereotype_correlation double,
    stereotype_low         double,
    stereotype_high        double,
    stereotype_p           double,
    stereotype_q           double,
    top_contexts           varchar,
    note                   varchar
);
comment on table latent_profiles is 'Latents at the deciding position of held-out images; AUROC of women against men, 95 % interval over picture groups.';
comment on column latent_profiles.q is 'Benjamini-Hochberg over all latents of the dictionary, dead ones counted.';
comment on column latent_profiles.gender_group is 'The gender shown by clear images that the latent follows.';
comment on column latent_profiles.stereotype_group is 'female: on images that show no gender it fires more in the contexts where the model says woman; null where that was not asked.';
comment on column latent_profiles.stereotype_correlation is 'Spearman over contexts: mean code against mean P(woman), 95 % interval beside it; null where there is no stereotype to follow.';
