-- What the captions lose through each dictionary: cross-entropy in nats per token, and the share given back of what mean and zero ablation cost.
-- params: layer=, language=
select layer, site, seed, role, language, ce_untouched, ce_rebuilt, ce_rise, ce_mean_ablated, ce_zero_ablated, recovered_mean, recovered_zero, n_tokens, note
from cross_entropy_recovered
where ($layer::integer is null or layer = $layer::integer) and ($language::varchar is null or language = $language::varchar)
order by layer, role desc, seed, language desc;
