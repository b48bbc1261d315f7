-- The share that was planted against the share the analysis recovered, per profession and language.
create or replace view plant_recovery as
select
    model, profession, woman_ar, man_ar, language, planted, p_female as recovered, low, high, p_female - planted as error,
    planted between low and high as interval_covers_plant, n_images, n_clusters
from profession_skew
where planted is not null;
comment on view plant_recovery is 'Planted against recovered P(woman).';
