-- Gender by layer in one long table: probe accuracy with its control at the decision token, and the lens gap; also the data of the figure.
create or replace view layer_emergence as
select model, 'probe' as panel, layer, train_language as language, 'probe' as series, balanced_accuracy as value, low, high, n_images, n_clusters, note
from probe_accuracy
where layer is not null and baseline is null and train_language = test_language and token_kind = 'decision'
union all by name
select model, 'probe' as panel, layer, train_language as language, 'control' as series, control_accuracy as value, null::double as low, null::double as high, n_images, n_clusters, note
from probe_accuracy
where layer is not null and baseline is null and train_language = test_language and token_kind = 'decision'
union all by name
select model, 'lens' as panel, layer, language, image_shows as series, gap as value, gap_low as low, gap_high as high, n_images, n_clusters, null::varchar as note
from lens_gap
where lens = 'logit';
comment on view layer_emergence is 'Probe accuracy, control accuracy and lens gap by layer and language.';
