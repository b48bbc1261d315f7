-- How well each cheap score of latents tells the exact effects: rank correlation and recall over the verified latents.
create or replace view estimate_agreement as
select r.model, c.layer, c.language, c.target, c.method, c.rank_correlation, c.low, c.high, c.k, c.recall, c.n_latents, c.n_images, c.note
from estimate_checks c
join latest_runs r on r.run_id = c.run_id;
comment on view estimate_agreement is 'Scores of latents against their exact effects.';
