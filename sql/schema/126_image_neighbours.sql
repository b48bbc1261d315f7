-- Image tokens in words: what text stands nearest to each, by layer.
create table image_neighbours (
    run_id        varchar not null,
    layer         integer not null,
    sample_id     varchar not null,
    position      integer not null,
    token         varchar not null,
    share         double not null,
    cosine        double not null
);
comment on table image_neighbours is 'Commonest token among the nearest text activations of the same layer; position counts the picture''s tokens from 0.';
comment on column image_neighbours.share is 'Share of the nearest neighbours that are this token.';
