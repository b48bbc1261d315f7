-- Spectra of the model's products and of activations: how many directions a matrix really uses.
create table factored_matrices (
    run_id              varchar not null,
    matrix              varchar not null check (matrix in ('dictionary to words', 'attention head', 'activations')),
    layer               integer not null,
    head                integer,
    language            varchar,
    n_rows              bigint not null,
    n_columns           bigint not null,
    n_inner             bigint not null,
    rank                integer,
    rank_90             integer,
    stable_rank         double,
    effective_rank      double,
    participation_ratio double,
    norm                double not null,
    copying             double,
    reason              varchar
);
comment on table factored_matrices is 'Dictionary to words: W_dec W_U. Attention head: value map times output map. Activations: at the deciding position, centred.';
comment on column factored_matrices.rank_90 is 'Directions that hold 90 % of the squared singular values.';
comment on column factored_matrices.effective_rank is 'exp of the Shannon entropy of the singular values'' shares.';
comment on column factored_matrices.copying is 'Sum of eigenvalues over sum of their absolute values; 1: the head passes on what it reads.';
comment on column factored_matrices.reason is 'Why numbers are null; copying is null for all but heads.';
