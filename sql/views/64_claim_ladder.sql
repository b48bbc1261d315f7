-- The claim ladder: L1 probes that cross over, L2 directions, L3 latents, L4 causal transfer; each with interval, floor (chance) and ceiling.
create or replace view claim_ladder as
with steered as (
    select s.*, r.model
    from steering_effects s
    join latest_runs r on r.run_id = s.run_id
    where s.metric = 'stereotype_spread' and s.split = 'report'
),
doses as (
    select own.model, own.layer, own.language, own.value as own_value, own.low as own_low, own.high as own_high,
        crossed.value as value, crossed.low as low, crossed.high as high, crossed.n_images, crossed.n_clusters, crossed.strength
    from steered own
    join steered crossed on crossed.run_id = own.run_id and crossed.layer = own.layer and crossed.language = own.language and crossed.arm = 'A3'
        and crossed.strength = own.strength and crossed.target = 'stereotype/' || case own.language when 'en' then 'ar' else 'en' end
    where own.arm = 'A3' and own.target = 'stereotype/' || own.language
    qualify row_number() over (partition by own.model, own.layer, own.language order by own.strength desc) = 1
),
transfer as (
    select d.model, d.layer, 'L4' as rung, 'causal_transfer_' || case d.language when 'en' then 'ar_en' else 'en_ar' end as measure, d.value - d.own_value as value,
        d.value - d.own_value - sqrt((d.value - d.low) ** 2 + (d.own_high - d.own_value) ** 2) as low,
        d.value - d.own_value + sqrt((d.high - d.value) ** 2 + (d.own_value - d.own_low) ** 2) as high,
        b.value - d.own_value as floor, 0.0 as ceiling, null::double as p, d.n_images, d.n_clusters,
        'stereotype left under the other language''s latents minus under its own, full dose ' || d.strength || '; interval from those of the arms, wide' as note
    from doses d
    left join (select model, language, layer, any_value(value) as value from steered where arm = 'A0' group by all) b
        on b.model = d.model and b.language = d.language and b.layer = d.layer
),
measured as (
    select r.model, c.layer, c.rung, c.measure, c.value, c.low, c.high, c.floor, c.ceiling, c.p, c.n_images, c.n_clusters, c.note
    from language_contrast c
    join latest_runs r on r.run_id = c.run_id
)
select * from measured
union all
select * from transfer
union all
select distinct m.model, null::integer, 'L4', 'causal_transfer', null::double, null::double, null::double, null::double, null::double, null::double, 0, 0,
    'steer has not measured one language''s latents while the other is written: run saebias steer'
from measured m
where not exists (select 1 from transfer);
comment on view claim_ladder is 'Only L4 supports that debiasing in one language works in the other; value 0 means the other language''s latents do what its own do.';
