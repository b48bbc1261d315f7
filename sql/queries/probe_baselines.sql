-- What a probe reads without the model: baselines such as pixels and bag of words, beside the best layer.
-- params: language=
select coalesce(baseline, 'layer ' || layer) as reads, train_language as language, token_kind, balanced_accuracy, low, high, bits, n_images, n_clusters, note
from probe_accuracy
where train_language = test_language and ($language::varchar is null or train_language = $language::varchar)
qualify baseline is not null
    or row_number() over (partition by baseline, train_language, token_kind order by balanced_accuracy desc nulls last, layer) = 1
order by language desc, token_kind, balanced_accuracy desc nulls last;
