-- Do latents follow the form of words or who is meant: what could be tested, and how many latents were found.
-- params: language=
select layer, language, evidence, n_selected, strongest, smallest_p, n_words, n_units, note
from form_or_meaning
where $language::varchar is null or language = $language::varchar
order by language desc, evidence, layer;
