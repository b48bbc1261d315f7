-- The logit lens: how far each layer already favours the feminine caption (log P(F) - log P(M)), per image kind and language.
create or replace view lens_gap as
select r.model, l.lens, l.layer, l.language, case l.visual_gender when 'F' then 'woman' when 'M' then 'man' when 'A' then 'ambiguous' end as image_shows,
    l.gap, l.gap_low, l.gap_high, l.kl_to_final, l.entropy, l.female_rank, l.male_rank, l.n_images, l.n_clusters
from lens l
join latest_runs r on r.run_id = l.run_id;
comment on view lens_gap is 'Gender gap of the logit lens per layer, nats.';
