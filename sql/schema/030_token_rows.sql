-- One row per kept activation row: which token of which sample it is.
create table token_rows (
    run_id     varchar not null,
    shard      integer not null,
    row        bigint not null,
    sample_id  varchar not null,
    language   varchar not null,
    split      varchar not null,
    position   integer not null,
    token_id   integer not null,
    token      varchar not null,
    token_kind varchar not null check (token_kind in ('image', 'prompt', 'caption')),
    decision   boolean not null
);
comment on table token_rows is 'The index of the activation arrays: row is the first axis.';
comment on column token_rows.decision is 'True where the next token decides the gender said.';
