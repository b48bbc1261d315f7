-- Professions with English and Arabic side by side: P(woman) with intervals, and the difference between the languages.
create or replace view profession_pairs as
select
    max(model) as model, profession, max(woman_ar) as woman_ar, max(man_ar) as man_ar,
    max(p_female) filter (where language = 'en') as p_female_en,
    max(low) filter (where language = 'en') as low_en,
    max(high) filter (where language = 'en') as high_en,
    max(planted) filter (where language = 'en') as planted_en,
    max(p_female) filter (where language = 'ar') as p_female_ar,
    max(low) filter (where language = 'ar') as low_ar,
    max(high) filter (where language = 'ar') as high_ar,
    max(planted) filter (where language = 'ar') as planted_ar,
    max(p_female) filter (where language = 'ar') - max(p_female) filter (where language = 'en') as ar_minus_en,
    max(abs(p_female - 0.5)) as largest_skew,
    max(n_images) as n_images
from profession_skew
group by profession;
comment on view profession_pairs is 'P(woman) per profession, English and Arabic side by side.';
