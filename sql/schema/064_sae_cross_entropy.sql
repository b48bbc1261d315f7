-- What the captions lose when the residual stream is replaced by a dictionary's reconstruction.
create table sae_cross_entropy (
    run_id          varchar not null,
    sae_id          varchar not null,
    layer           integer not null,
    language        varchar not null,
    split           varchar not null,
    ce_untouched    double not null,
    ce_rebuilt      double not null,
    ce_mean_ablated double not null,
    ce_zero_ablated double not null,
    recovered_mean  double,
    recovered_zero  double,
    n_samples       integer not null,
    n_tokens        bigint not null,
    note            varchar
);
comment on table sae_cross_entropy is 'Cross-entropy of the reference captions, nats per token, with the residual stream replaced at every text position behind the picture.';
comment on column sae_cross_entropy.recovered_mean is 'Share given back of what mean ablation costs; not clipped, above 1 the captions are likelier than without the dictionary.';
comment on column sae_cross_entropy.recovered_zero is 'Share given back of what zero ablation costs; not clipped.';
