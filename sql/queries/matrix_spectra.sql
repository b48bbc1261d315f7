-- How many directions a layer really uses: ranks of W_dec W_U, of each head's value-output map, and of the activations at the deciding position.
-- params: matrix=, layer=
select matrix, layer, head, language, n_rows, n_columns, rank, rank_90, stable_rank, effective_rank, participation_ratio, norm, copying, note
from matrix_spectra
where ($matrix::varchar is null or matrix = $matrix::varchar) and ($layer::integer is null or layer = $layer::integer)
order by matrix, layer, head, language desc;
