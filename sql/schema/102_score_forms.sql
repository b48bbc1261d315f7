-- Every written form that was matched in a scored file, with what was made of it and in how many captions.
create table score_forms (
    run_id   varchar not null,
    side     varchar not null check (side in ('file', 'compare')),
    language varchar not null check (language in ('en', 'ar')),
    form     varchar not null,
    gender   varchar not null,
    rule     varchar not null,
    counted  boolean not null,
    captions bigint not null check (captions > 0)
);
comment on table score_forms is 'The audit of a scored file: every matched form, counted or not, with the rule.';
comment on column score_forms.counted is 'False: matched, but not evidence; the rule says why (a name, a fixed phrase, a thing, an animal).';
