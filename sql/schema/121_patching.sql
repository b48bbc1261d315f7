-- Patching: one component's activations of the woman's picture put into the run on the man's picture of the same scene.
create table patching (
    run_id     varchar not null,
    part       varchar not null check (part in ('vision tower', 'projector', 'decoder')),
    layer      integer,
    site       varchar not null,
    token_kind varchar not null,
    language   varchar not null,
    effect     double not null,
    low        double,
    high       double,
    total      double not null,
    n_images   integer not null,
    n_clusters integer not null
);
comment on table patching is 'How far a patch moves log P(F) - log P(M) at the deciding token from the man''s picture toward the woman''s, nats.';
comment on column patching.total is 'What a patch of everything does: the gap of the woman''s picture minus that of the man''s.';
