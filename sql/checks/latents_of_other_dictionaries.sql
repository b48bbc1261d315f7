-- Latents tested or chosen in a dictionary that is not a main one: a control, another seed, another size.
select t."table", t.run_id, t.sae_id, s.role
from (
    select distinct 'feature_scores' as "table", run_id, sae_id from feature_scores
    union all
    select distinct 'feature_sets', run_id, sae_id from feature_sets
) t
join saes s on s.sae_id = t.sae_id
where s.role <> 'main';
