-- One row per image: what it shows, its captions, the split it belongs to.
create table samples (
    run_id        varchar not null,
    sample_id     varchar not null,
    image_id      varchar not null,
    cluster_id    varchar not null,
    context       varchar,
    concept       varchar,
    visual_gender varchar check (visual_gender in ('F', 'M', 'A')),
    split         varchar not null check (split in ('sae', 'select', 'report')),
    style         varchar,
    skin_tone     varchar,
    object        varchar,
    held_out      boolean not null,
    caption_en    varchar,
    caption_ar    varchar,
    image_path    varchar not null,
    primary key (run_id, sample_id)
);
comment on table samples is 'One row per image with its captions and split.';
comment on column samples.cluster_id is 'Group of near-duplicate images (the same drawing); the unit of every interval.';
comment on column samples.visual_gender is 'F, M, or A where the picture does not say.';
comment on column samples.split is 'sae: trains dictionaries; select: chooses latents, layers, strengths; report: every reported number that follows a choice.';
