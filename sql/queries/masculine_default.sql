-- Does the model say "man" when the picture does not? 1/2 - mean P(woman) per language, and the Arabic minus the English default on the same images.
select language, value as masculine_default, low, high, interval_excludes_null, n_images, n_clusters, note
from bias_summary
where metric = 'masculine_default'
order by list_position(['en', 'ar', 'ar-en'], language);
