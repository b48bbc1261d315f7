-- How many latents of one language find their partner in the other above chance, layer by layer.
select layer, n_pairs, n_matched, n_same, median_correlation, median_score, threshold, n_images, n_clusters
from latent_matching
order by layer;
