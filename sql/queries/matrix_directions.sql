-- What the strongest directions of a dictionary, head or layer say: the tokens they raise and lower most.
-- params: matrix=, layer=, direction=1
select matrix, layer, head, language, direction, energy_share, tokens_raised, tokens_lowered
from matrix_directions
where ($matrix::varchar is null or matrix = $matrix::varchar) and ($layer::integer is null or layer = $layer::integer)
    and ($direction::integer is null or direction <= $direction::integer)
order by matrix, layer, head, language desc, direction;
