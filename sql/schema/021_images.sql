-- One row per image file that was accepted.
create table images (
    run_id       varchar not null,
    image_id     varchar not null,
    path         varchar not null,
    content_hash varchar not null,
    width        integer not null check (width > 0),
    height       integer not null check (height > 0),
    format       varchar not null,
    n_bytes      bigint not null,
    cluster_id   varchar not null,
    primary key (run_id, image_id)
);
comment on table images is 'One row per accepted image file.';
