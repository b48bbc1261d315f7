-- Latent sets with holes, doubles, or fewer latents than another set of the same run and target: k was asked for and not reached.
with sets as (
    select run_id, set_name, target, language, layer, count(*) as n, count(distinct latent) as n_distinct, max(rank) - min(rank) + 1 as n_ranks
    from feature_sets
    group by run_id, set_name, target, language, layer
)
select *
from sets
qualify n <> n_distinct or n <> n_ranks or n < max(n) over (partition by run_id, target);
