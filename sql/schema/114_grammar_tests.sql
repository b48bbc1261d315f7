-- What could be tested of form and meaning, with how many words, and what came out.
create table grammar_tests (
    run_id     varchar not null,
    sae_id     varchar not null,
    layer      integer not null,
    language   varchar not null,
    evidence   varchar not null,
    follows    varchar not null check (follows in ('form', 'meaning')),
    n_selected integer,
    strongest  double,
    smallest_p double,
    n_latents  integer not null,
    n_words    integer not null,
    n_units    integer not null,
    note       varchar
);
comment on table grammar_tests is 'Tests of form (meaning held fixed) and of meaning (form held fixed); null with a reason where the captions hold no such words.';
comment on column grammar_tests.n_units is 'What is exchanged: lexemes, or picture groups of a shared noun. Few of them bound the smallest p.';
