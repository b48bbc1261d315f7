-- The professions with their English name, Arabic name, and feminine and masculine forms in Arabic.
create or replace view professions as
with words as (
    select c.run_id, c.context, c.language, c.gender, string_split(trim(min(c.text)), ' ') as w
    from continuations c
    join latest_runs r on r.run_id = c.run_id
    where c.context <> '*'
    group by c.run_id, c.context, c.language, c.gender
),
-- A continuation may go on after the name ("with", "stands"): a last word that at least half of a gender's forms end in belongs to no profession.
tails as (
    select language, gender, w[-1] as tail
    from words
    where len(w) > 1
    group by language, gender, w[-1]
    having count(*) > 1 and 2 * count(*) >= (select count(*) from words every where every.language = words.language and every.gender = words.gender)
),
forms as (
    select words.context, words.language, words.gender, array_to_string(case when tails.tail is null or len(w) = 1 then w else w[:-2] end, ' ') as form
    from words
    left join tails on tails.language = words.language and tails.gender = words.gender and tails.tail = w[-1]
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
