-- Are the random latents like the chosen ones: standardised difference per covariate; under .1 is alike.
-- params: target=
select target, language, layer, covariate, target_mean, random_mean, standardized_difference, alike
from matching
where $target::varchar is null or target = $target::varchar
order by abs(standardized_difference) desc, target, language, covariate;
