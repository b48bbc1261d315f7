-- Caption beginnings that disclose gender: the closed set whose exact probability is taken.
create table continuations (
    run_id   varchar not null,
    context  varchar not null,
    language varchar not null check (language in ('en', 'ar')),
    gender   varchar not null check (gender in ('F', 'M', 'N')),
    text     varchar not null
);
comment on table continuations is 'Caption beginnings that disclose gender, per context and language; context * serves all.';
