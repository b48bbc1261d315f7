-- Captions the model wrote, with the gender read off them.
create table generated_captions (
    run_id    varchar not null,
    sample_id varchar not null,
    language  varchar not null,
    mode      varchar not null check (mode in ('greedy', 'sample')),
    draw      integer not null,
    text      varchar not null,
    label     varchar not null check (label in ('F', 'M', 'N', 'X', '0')),
    explicit  boolean not null,
    evidence  json not null,
    n_words   integer not null
);
comment on table generated_captions is 'Captions written by the model: greedy, or sampled at temperature 1.';
