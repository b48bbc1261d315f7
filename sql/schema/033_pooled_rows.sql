-- Means over a sample's tokens of one kind, on request: which row of a shard's file they are.
create table pooled_rows (
    run_id     varchar not null,
    shard      integer not null,
    row        integer not null,
    sample_id  varchar not null,
    language   varchar not null,
    token_kind varchar not null check (token_kind in ('image', 'prompt', 'caption')),
    n_tokens   integer not null check (n_tokens > 0)
);
comment on table pooled_rows is 'The index of files/pooled/shard-*.safetensors (extract.pooled=true); never used for training.';
