-- Nodes of the graph of chosen latents: how often each fires on pictures of women and of men, and its edges.
create table latent_nodes (
    run_id       varchar not null,
    sae_id       varchar not null,
    layer        integer not null,
    language     varchar not null,
    latent       integer not null,
    sets         varchar not null,
    firing_women double not null,
    firing_men   double not null,
    degree       integer not null
);
comment on table latent_nodes is 'The latents whose pairs were looked at; degree counts pairs with q at most .05.';
