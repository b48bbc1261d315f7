-- Per layer and language: live and dead latents, how densely they fire, and how many follow the gender shown, or the stereotype where none is shown.
create or replace view language_profile as
select r.model, p.layer, p.language, p.n_latents, p.n_live, p.n_dead, p.density, p.l0, p.n_female, p.n_male, p.n_neutral, p.n_gendered_permuted,
    p.n_stereotype_female, p.n_stereotype_male, p.n_stereotype_permuted, p.stereotype_spread, p.n_contexts, p.stereotype_note, p.split, p.n_images, p.n_clusters
from language_profiles p
join latest_runs r on r.run_id = p.run_id;
comment on view language_profile is 'What the latents of each layer do in each language, at the position that decides the gender.';
