-- How many directions the dictionaries, attention heads and activations of each layer really use.
create or replace view matrix_spectra as
select r.model, f.matrix, f.layer, f.head, f.language, f.n_rows, f.n_columns, f.n_inner, f.rank, f.rank_90, f.stable_rank, f.effective_rank,
    f.participation_ratio, f.norm, f.copying, f.reason as note
from factored_matrices f
join latest_runs r on r.run_id = f.run_id;
comment on view matrix_spectra is 'Ranks of W_dec W_U, of the heads'' value-output maps and of activations.';
