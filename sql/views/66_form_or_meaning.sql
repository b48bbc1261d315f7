-- What could be tested of form and meaning, layer by layer: words, units exchanged, latents found, or why nothing could.
create or replace view form_or_meaning as
select r.model, g.layer, g.language, g.evidence, g.follows, g.n_selected, g.strongest, g.smallest_p, g.n_latents, g.n_words, g.n_units, g.note
from grammar_tests g
join latest_runs r on r.run_id = g.run_id;
comment on view form_or_meaning is 'Latents that follow the form of words, or who is meant, with the other held fixed.';
