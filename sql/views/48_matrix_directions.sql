-- The strongest directions of each dictionary, attention head and activation matrix in words.
create or replace view matrix_directions as
select r.model, d.matrix, d.layer, d.head, d.language, d.direction, d.singular_value, d.energy_share, d.tokens_raised, d.tokens_lowered
from singular_directions d
join latest_runs r on r.run_id = d.run_id;
comment on view matrix_directions is 'Tokens raised and lowered by the first singular directions.';
