-- The professions with their English name, Arabic name, and feminine and masculine forms in Arabic.
create or replace view professions as
with words as (
    select c.run_id, c.context, c.language, c.gender, string_split(trim(min(c.text)), ' ') as w
    from continuations c
    join latest_runs r on r.run_id = c.run_id
    where c.context <> '*'
    group by c.run_id, c.context, c.language, c.gender
),
-- A continuation may go on after the name ("with", "stands"): the last word of a gender's forms when it is the same for all professions.
tails as (
    select language, gender, count(distinct w[-1]) = 1 and count(*) > 1 and min(len(w)) > 1 as shared
    from words
    group by language, gender
),
forms as (
    select words.context, words.language, words.gender, array_to_string(case when tails.shared then w[:-2] else w end, ' ') as form
    from words
    join tails using (language, gender)
)
select
    replace(context, '_', ' ') as profession,
    max(form) filter (where language = 'ar' and gender = 'F') as woman_ar,
    max(form) filter (where language = 'ar' and gender = 'M') as man_ar,
    max(form) filter (where language = 'ar' and gender = 'N') as neutral_ar,
    max(form) filter (where language = 'en' and gender = 'F') as woman_en,
    max(form) filter (where language = 'en' and gender = 'M') as man_en,
    max(form) filter (where language = 'en' and gender = 'N') as neutral_en
from forms
group by context;
comment on view professions is 'The professions with the forms of their names in both languages.';
