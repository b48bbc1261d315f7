-- One row per reference caption, with the gender read off it and the evidence.
create table captions (
    run_id        varchar not null,
    caption_id    varchar not null,
    sample_id     varchar not null,
    image_id      varchar not null,
    language      varchar not null check (language in ('en', 'ar')),
    caption_index integer not null,
    text          varchar not null,
    label         varchar not null check (label in ('F', 'M', 'N', 'X', '0')),
    explicit      boolean not null,
    evidence      json not null,
    primary key (run_id, caption_id)
);
comment on table captions is 'Reference captions with their gender label and its evidence.';
comment on column captions.explicit is 'False where the only evidence is Arabic masculine grammar, the unmarked default.';
