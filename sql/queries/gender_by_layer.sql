-- Which layer carries gender: probe accuracy per layer beside its control task and a permuted-label probe, within one language.
-- params: language=, token_kind=decision
select layer, train_language as language, token_kind, balanced_accuracy, low, high, control_accuracy, selectivity, permuted_accuracy, bits, n_images, n_clusters, note
from probe_accuracy
where baseline is null and train_language = test_language
    and ($language::varchar is null or train_language = $language::varchar)
    and ($token_kind::varchar is null or token_kind = $token_kind::varchar)
order by language desc, token_kind, layer;
