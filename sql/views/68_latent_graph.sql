-- Edges of the graph of chosen latents: firing together (PMI), and correlating differently on pictures of women and of men, with both ends' firing.
create or replace view latent_graph as
select r.model, e.layer, e.language, e.latent_a, a.sets as sets_a, a.firing_women as women_a, a.firing_men as men_a, e.latent_b, b.sets as sets_b,
    b.firing_women as women_b, b.firing_men as men_b, e.pmi, e.n_both, e.correlation_women, e.correlation_men, e.z, e.p, e.q, e.split, e.n_clusters_women,
    e.n_clusters_men, e.note
from latent_pairs e
join latest_runs r on r.run_id = e.run_id
join latent_nodes a on a.run_id = e.run_id and a.layer = e.layer and a.language = e.language and a.latent = e.latent_a
join latent_nodes b on b.run_id = e.run_id and b.layer = e.layer and b.language = e.language and b.latent = e.latent_b;
comment on view latent_graph is 'Pairs of chosen latents with the latents they join.';
