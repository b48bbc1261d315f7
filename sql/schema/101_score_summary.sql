-- What a scored file says in numbers: shares, rates, corrected prevalence, outcomes against a reference, differences, alarms.
create table score_summary (
    run_id   varchar not null,
    place    integer not null,
    side     varchar not null check (side in ('file', 'compare', 'difference')),
    language varchar,
    context  varchar,
    measure  varchar not null,
    hits     bigint,
    total    bigint,
    value    double,
    low      double,
    high     double,
    note     varchar
);
comment on table score_summary is 'Shares and rates of a scored file, each with a 95 % interval over pictures.';
comment on column score_summary.place is 'Order in which the rows are printed.';
comment on column score_summary.side is 'difference: compare - file, over the pictures that both have.';
comment on column score_summary.language is 'Null where a row concerns the file as a whole.';
comment on column score_summary.hits is 'What was counted; of a difference, the change of the count.';
comment on column score_summary.total is 'What it is a share of: captions, words; of a difference, pictures.';
comment on column score_summary.value is 'Null, with the reason in note, where it cannot be computed.';
