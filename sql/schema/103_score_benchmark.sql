-- How good the gender labels are, on public data with known gender.
create table score_benchmark (
    run_id   varchar not null,
    place    integer not null,
    dataset  varchar not null,
    part     varchar not null,
    language varchar not null,
    gender   varchar not null,
    measure  varchar not null,
    hits     bigint not null,
    n        bigint not null check (n >= hits),
    value    double,
    low      double,
    high     double
);
comment on table score_benchmark is 'How often the labels are right, per data set, language and gender, with 95 % Wilson intervals.';
comment on column score_benchmark.part is 'all; where the rules were written on one half: that half (tuned on), and the half that nobody read (unseen).';
comment on column score_benchmark.value is 'Null where n is 0.';
