-- One row per kept activation row: which token of which sample it is.
create table token_rows (
    run_id        varchar not null,
    shard         integer not null,
    row           bigint not null,
    sample_id     varchar not null,
    language      varchar not null,
    split         varchar not null,
    prompt_id     varchar not null,
    position      integer not null check (position >= 0),
    token_id      integer not null,
    token         varchar not null,
    token_kind    varchar not null check (token_kind in ('image', 'prompt', 'caption')),
    decision      boolean not null,
    last          boolean not null,
    reads_caption boolean not null
);
comment on table token_rows is 'The index of the activation arrays: row is the first axis.';
comment on column token_rows.prompt_id is 'Which prompt was used; see extract_prompts.';
comment on column token_rows.position is 'Counted from 0 within the tokens the model was given, image tokens included.';
comment on column token_rows.decision is 'True where the next token decides the gender said.';
comment on column token_rows.last is 'True at the last position of the prompt.';
comment on column token_rows.reads_caption is 'True where the model has seen words of the sample''s own caption that could tell the gender: no evidence about the picture.';
