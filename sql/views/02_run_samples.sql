-- The samples that each run saw: its own, or those of the prepare run it was made from.
create or replace view run_samples as
select
    g.run_id, s.sample_id, s.image_id, s.cluster_id, replace(s.context, '_', ' ') as profession, s.concept, s.visual_gender,
    case s.visual_gender when 'F' then 'woman' when 'M' then 'man' when 'A' then 'ambiguous' end as image_shows,
    s.split, s.style, s.skin_tone, s.object, s.held_out, s.caption_en, s.caption_ar, s.image_path
from samples s
join run_lineage g on g.ancestor_run_id = s.run_id;
comment on view run_samples is 'The samples that each run saw.';
