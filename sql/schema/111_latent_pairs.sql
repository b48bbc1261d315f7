-- Edges between chosen latents: firing together, and correlating differently on pictures of women and of men.
create table latent_pairs (
    run_id            varchar not null,
    sae_id            varchar not null,
    layer             integer not null,
    language          varchar not null,
    latent_a          integer not null,
    latent_b          integer not null,
    split             varchar not null,
    pmi               double,
    n_both            integer not null,
    correlation_women double,
    correlation_men   double,
    z                 double,
    p                 double,
    q                 double,
    n_clusters_women  integer not null,
    n_clusters_men    integer not null,
    note              varchar
);
comment on table latent_pairs is 'Pairs of the latents chosen on select, on report images. z is Fisher''s z of the difference of rank correlations over picture groups.';
comment on column latent_pairs.pmi is 'Pointwise mutual information of firing, nats; null where the two never fire together.';
comment on column latent_pairs.p is 'Two-sided, by permutation of picture groups between women and men, ranks taken within each gender.';
comment on column latent_pairs.q is 'Benjamini-Hochberg over the pairs tested in one layer and language.';
