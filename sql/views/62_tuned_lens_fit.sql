-- What the tuned lens gains over the logit lens on images it was not trained on.
create or replace view tuned_lens_fit as
select r.model, f.token_kind, f.layer, f.kl_before, f.kl_after, f.n_fitted, f.n_held_out
from lens_fits f
join latest_runs r on r.run_id = f.run_id;
comment on view tuned_lens_fit is 'KL to the model before and after tuning, nats.';
