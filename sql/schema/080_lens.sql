-- Logit lens: the gender gap of each layer at the decision position.
create table lens (
    run_id           varchar not null,
    lens             varchar not null check (lens in ('logit', 'tuned')),
    layer            integer not null,
    language         varchar not null,
    visual_gender    varchar not null,
    gap              double not null,
    gap_low          double,
    gap_high         double,
    kl_to_final      double not null,
    entropy          double not null,
    female_rank      double not null,
    male_rank        double not null,
    n_images         integer not null,
    n_clusters       integer not null
);
comment on table lens is 'Logit lens at the decision position: log P(F) - log P(M), KL to the last layer (nats), entropy (nats).';
comment on column lens.lens is 'logit: the model''s own unembedding. tuned: after an affine map trained on other images; report split only.';
comment on column lens.female_rank is 'Median over images of the rank of the likeliest F token, 0 for the top of the vocabulary.';
