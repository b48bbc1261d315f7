-- Where gender enters and by which tokens it travels: the effect of patching a component from the woman's into the man's picture of the same scene.
-- params: language=, part=, component=, token_kind=
select part, layer, component, token_kind, language, effect, low, high, total, n_images, n_clusters
from patching_effects
where ($language::varchar is null or language = $language::varchar) and ($part::varchar is null or part = $part::varchar)
    and ($component::varchar is null or component = $component::varchar) and ($token_kind::varchar is null or token_kind = $token_kind::varchar)
order by language desc, part desc, component desc, token_kind, layer;
