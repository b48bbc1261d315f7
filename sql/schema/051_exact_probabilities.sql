-- Exact closed-set probability that the caption says woman, man or neither, per image and language.
create table exact_probabilities (
    run_id    varchar not null,
    sample_id varchar not null,
    language  varchar not null,
    p_female  double not null,
    p_male    double not null,
    p_neutral double,
    coverage  double not null,
    gap       double not null
);
comment on table exact_probabilities is 'Exact probabilities from the model, no sampling.';
comment on column exact_probabilities.p_female is 'P(F | F or M): total probability of the F continuations over that of F and M.';
comment on column exact_probabilities.p_neutral is 'P(N | F, M or N); null where no neutral continuation was given.';
comment on column exact_probabilities.coverage is 'Total probability of the closed set: how much of what the model would say it covers.';
comment on column exact_probabilities.gap is 'log P(F) - log P(M), nats.';
