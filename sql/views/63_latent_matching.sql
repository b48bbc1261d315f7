-- Per layer: how many latents of one language find a partner in the other above chance, and how many find themselves.
create or replace view latent_matching as
select r.model, m.layer, count(*) as n_pairs, sum(m.is_match::int)::int as n_matched, sum((m.is_match and m.is_same_latent)::int)::int as n_same,
    median(m.correlation) as median_correlation, median(m.score) as median_score, any_value(m.threshold) as threshold, any_value(m.n_images) as n_images,
    any_value(m.n_clusters) as n_clusters
from language_matches m
join latest_runs r on r.run_id = m.run_id
group by r.model, m.layer;
comment on view latent_matching is 'One-to-one matching of latents across languages over paired images, against broken pairings.';
