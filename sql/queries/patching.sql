-- Where gender enters and by which tokens it travels: the effect of patching a component between the woman's and the man's run of the same scene, both ways.
-- params: language=, part=, component=, token_kind=, direction=
select part, layer, component, token_kind, direction, language, effect, low, high, total, over_image, over_image_low, over_image_high, n_images, n_clusters
from patching_effects
where ($language::varchar is null or language = $language::varchar) and ($part::varchar is null or part = $part::varchar)
    and ($component::varchar is null or component = $component::varchar) and ($token_kind::varchar is null or token_kind = $token_kind::varchar)
    and ($direction::varchar is null or direction = $direction::varchar)
order by language desc, direction desc, part desc, component desc, token_kind, layer;
