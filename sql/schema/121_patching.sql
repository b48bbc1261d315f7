-- Patching: one component's activations of one twin's picture put into the run on the other's, of the same scene, both ways.
create table patching (
    run_id          varchar not null,
    part            varchar not null check (part in ('vision tower', 'projector', 'decoder')),
    layer           integer,
    site            varchar not null,
    token_kind      varchar not null,
    direction       varchar check (direction in ('woman into man', 'man into woman')),
    language        varchar not null,
    effect          double not null,
    low             double,
    high            double,
    total           double not null,
    over_image      double,
    over_image_low  double,
    over_image_high double,
    n_images        integer not null,
    n_clusters      integer not null
);
comment on table patching is 'How far a patch moves log P(F) - log P(M) at the deciding token from the run that is patched toward the other twin''s, nats.';
comment on column patching.total is 'What a patch of everything does: the gap of the woman''s picture minus that of the man''s.';
comment on column patching.direction is 'woman into man: what brings the woman into the man''s run; man into woman: what takes her out of her own.';
comment on column patching.over_image is 'Effect at the deciding token less that at the image tokens of the same layer and site, paired by scene; null elsewhere.';
