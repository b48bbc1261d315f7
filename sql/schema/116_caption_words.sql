-- Words of held-out captions by form and by meaning, with the activation row that reads each whole.
create table caption_words (
    run_id           varchar not null,
    row              bigint not null,
    sample_id        varchar not null,
    language         varchar not null,
    word             varchar not null,
    is_feminine_form boolean not null,
    meaning          varchar not null check (meaning in ('F', 'M', 'N')),
    rule             varchar,
    shows            varchar,
    cluster_id       varchar not null
);
comment on table caption_words is 'Words of captions, what their form shows and what they mean; at most 40 tokens of a word and meaning.';
comment on column caption_words.meaning is 'F, M, or N: says nothing of gender. Words that may mean anybody (masculine by grammar alone) are left out unless the picture shows a man.';
comment on column caption_words.rule is 'The rule of the labeller; null for a word that is no evidence of a person.';
