-- Which professions are most skewed, English and Arabic side by side: P(woman) on images that do not say.
-- params: top=20
select profession, woman_ar, man_ar, p_female_en, low_en, high_en, p_female_ar, low_ar, high_ar, ar_minus_en
from profession_pairs
order by largest_skew desc nulls last, profession
limit $top::integer;
