-- What an intervention does on both axes: what is left of the stereotype and the default, and the harm on clear images; baseline is arm A0.
-- params: language=, layer=, target=, split=report
select arm, arm_name, target, layer, language, strength, spread_left, spread_low, spread_high, spread_p, debias, debias_low, debias_high,
    default_left, default_low, default_high,
    clear_harm, harm_low, harm_high, clear_accuracy, n_images
from steering_frontier
where ($language::varchar is null or language = $language::varchar) and ($layer::integer is null or layer = $layer::integer)
    and ($target::varchar is null or target = $target::varchar) and ($split::varchar is null or split = $split::varchar)
order by language desc, length(arm), arm, target, strength;
