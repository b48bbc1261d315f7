-- One row per caption of a scored file, with the gender read off it and the evidence; or why it was set aside.
create table scored_captions (
    run_id          varchar not null,
    side            varchar not null check (side in ('file', 'compare')),
    row_number      bigint not null,
    language        varchar check (language in ('en', 'ar')),
    image_id        varchar,
    context         varchar,
    reference       varchar,
    text            varchar,
    label           varchar check (label in ('F', 'M', 'N', 'X', '0')),
    explicit        boolean,
    ambiguous       boolean,
    evidence        json,
    rejected        json,
    n_words         integer,
    reference_label varchar check (reference_label in ('F', 'M', 'N', 'X', '0')),
    problem         varchar,
    check ((label is null) = (problem is not null))
);
comment on table scored_captions is 'Captions of a scored file with their gender label and its evidence.';
comment on column scored_captions.side is 'file: the captions that were scored; compare: those after a change, of the same pictures.';
comment on column scored_captions.image_id is 'The row number where the file names no picture.';
comment on column scored_captions.explicit is 'False where the only evidence is Arabic masculine grammar, the unmarked default, and where no gender is said.';
comment on column scored_captions.ambiguous is 'The label rests on evidence over which a careful reader would hesitate.';
comment on column scored_captions.rejected is 'Forms that were matched but not counted; the rule says why.';
comment on column scored_captions.problem is 'Why the row was set aside; null where it was labelled.';
