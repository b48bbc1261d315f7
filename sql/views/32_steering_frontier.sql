-- Both axes of each arm and strength in one row: what is left of the stereotype and the default, and the harm on clear images (without the search for a layer).
create or replace view steering_frontier as
select
    model, arm, arm_name, target, layer, language, split, strength,
    max(value) filter (where metric = 'stereotype_spread') as spread_left,
    max(low) filter (where metric = 'stereotype_spread') as spread_low,
    max(high) filter (where metric = 'stereotype_spread') as spread_high,
    max(p) filter (where metric = 'stereotype_spread') as spread_p,
    max(value) filter (where metric = 'masculine_default') as default_left,
    max(low) filter (where metric = 'masculine_default') as default_low,
    max(high) filter (where metric = 'masculine_default') as default_high,
    max(value) filter (where metric = 'clear_harm') as clear_harm,
    max(low) filter (where metric = 'clear_harm') as harm_low,
    max(high) filter (where metric = 'clear_harm') as harm_high,
    max(value) filter (where metric = 'selective_debias') as debias,
    max(low) filter (where metric = 'selective_debias') as debias_low,
    max(high) filter (where metric = 'selective_debias') as debias_high,
    max(value) filter (where metric = 'clear_accuracy') as clear_accuracy,
    max(value) filter (where metric = 'cross_entropy_rise') as cross_entropy_rise,
    max(n_images) as n_images
from steering_curves
where arm <> 'A6' and coalesce(note, '') not like 'choice of layer%'
group by model, arm, arm_name, target, layer, language, split, strength;
comment on view steering_frontier is 'Stereotype left against harm, per arm and strength.';
