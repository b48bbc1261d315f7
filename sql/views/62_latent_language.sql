-- Every latent that carries gender in some language: shared, English only, Arabic only, or unclear, with the evidence.
create or replace view latent_language as
select r.model, l.layer, l.latent, l.verdict, l.auroc_en, l.low_en, l.high_en, l.q_en, l.auroc_ar, l.low_ar, l.high_ar, l.q_ar, l.q_both, l.split, l.n_images,
    l.n_clusters
from latent_languages l
join latest_runs r on r.run_id = l.run_id
where l.verdict <> 'none';
comment on view latent_language is 'Latents of gender by the languages that they carry it in.';
