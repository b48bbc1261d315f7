-- How well cheap scores of latents tell their exact effects.
create table estimate_checks (
    run_id           varchar not null,
    sae_id           varchar not null,
    layer            integer not null,
    language         varchar not null,
    target           varchar not null check (target in ('visible', 'stereotype')),
    method           varchar not null,
    rank_correlation double,
    low              double,
    high             double,
    k                integer not null,
    recall           double check (recall between 0 and 1),
    n_latents        integer not null,
    n_images         integer not null,
    note             varchar
);
comment on table estimate_checks is 'Rank correlation and recall of scores against exact single-latent effects.';
comment on column estimate_checks.rank_correlation is 'Spearman''s, of sizes, over the verified latents; the interval is over latents.';
comment on column estimate_checks.recall is 'Share of the k largest exact effects that are among the k largest scores, within the verified latents.';
