-- Decision-position activations projected on three axes: gender of both languages and the largest variation left.
create table gender_projections (
    run_id        varchar not null,
    layer         integer not null,
    sample_id     varchar not null,
    language      varchar not null,
    visual_gender varchar not null,
    context       varchar,
    x             double not null,
    y             double not null,
    z             double not null
);
comment on table gender_projections is 'Points of the 3-D figure: x English gender direction, y Arabic one made orthogonal, z first principal component of the rest.';
