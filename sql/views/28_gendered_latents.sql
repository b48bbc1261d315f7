-- How many latents differ between women and men, beside how many do where none can: permuted labels, frozen random decoder.
create or replace view gendered_latents as
select
    r.model, c.layer, s.site, s.seed, c.language, case c.role when 'main' then 'learned' else 'frozen random decoder' end as dictionary,
    c.labels, c.n_live, c.n_found, c.share_found, c.largest_effect, c.n_images, c.split, c.note
from latent_controls c
join latest_runs r on r.run_id = c.run_id
left join run_lineage g on g.run_id = c.run_id and g.ancestor_stage = 'train'
left join saes s on s.run_id = g.ancestor_run_id and s.sae_id = c.sae_id;
comment on view gendered_latents is 'Gendered latents beside the controls.';
