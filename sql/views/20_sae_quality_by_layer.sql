-- Quality of each dictionary per layer, token kind and language: centred FVU, L0, dead share, on images never trained on.
create or replace view sae_quality_by_layer as
select
    r.model, q.layer, s.site, s.architecture, s.n_latents, s.k, s.seed, s.frozen_decoder, s.role, q.token_kind, q.language, q.split,
    q.fvu, q.l0, q.dead_share, q.density_median, q.density_high, q.decoder_cosine, q.nearest_cosine, q.n_rows, q.note
from sae_quality q
join latest_runs r on r.run_id = q.run_id
left join run_lineage g on g.run_id = q.run_id and g.ancestor_stage = 'train'
left join saes s on s.run_id = g.ancestor_run_id and s.sae_id = q.sae_id;
comment on view sae_quality_by_layer is 'Dictionary quality per layer, token kind and language.';
