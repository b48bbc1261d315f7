-- Logit lens: the gender gap of each layer at the decision position.
create table lens (
    run_id           varchar not null,
    layer            integer not null,
    language         varchar not null,
    visual_gender    varchar not null,
    gap              double not null,
    gap_low          double,
    gap_high         double,
    kl_to_final      double not null,
    entropy          double not null,
    n_images         integer not null,
    n_clusters       integer not null
);
comment on table lens is 'Logit lens at the decision position: log P(F) - log P(M), KL to the last layer (nats), entropy (nats).';
