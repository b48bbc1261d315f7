-- Per layer: is visible gender encoded once for both languages, once for each, or both ways?
create table language_verdicts (
    run_id        varchar not null,
    layer         integer not null,
    verdict       varchar not null check (verdict in ('shared', 'separate', 'hierarchical', 'null', 'one language', 'undecided')),
    angle_degrees double,
    split         varchar not null,
    n_images      integer not null,
    n_clusters    integer not null,
    note          varchar
);
comment on table language_verdicts is 'Verdict on visible gender from probes in both languages and the reliability-corrected cosine of the gender directions, over the images counted here.';
