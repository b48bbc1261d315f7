-- Greedy captions under each arm, beside the baseline caption.
create table steered_captions (
    run_id    varchar not null,
    arm       varchar not null,
    target    varchar not null,
    strength  double not null,
    sample_id varchar not null,
    language  varchar not null,
    text      varchar not null,
    baseline  varchar not null,
    label     varchar not null,
    explicit  boolean not null,
    n_words   integer not null
);
comment on table steered_captions is 'Greedy captions under each arm, beside the baseline.';
