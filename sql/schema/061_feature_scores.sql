-- Every latent tested: its association with gender on the select split, and its value on the report split.
create table feature_scores (
    run_id       varchar not null,
    sae_id       varchar not null,
    layer        integer not null,
    latent       integer not null,
    language     varchar not null,
    target       varchar not null check (target in ('visible', 'stereotype')),
    method       varchar not null,
    value_select double,
    p            double,
    q            double,
    value_report double,
    low          double,
    high         double,
    firing_rate  double not null,
    selected     boolean not null
);
comment on table feature_scores is 'Association of each latent with visible gender or with the stereotype.';
comment on column feature_scores.q is 'Benjamini-Hochberg over all latents of the dictionary, dead ones counted.';
comment on column feature_scores.value_report is 'The same statistic on images and concepts never used to select.';
