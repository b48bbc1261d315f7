-- Profiles whose groups of latents do not add up to the dictionary, or do not agree with the latents' own rows.
select p.run_id, p.layer, p.language, p.n_latents, p.n_female + p.n_male + p.n_neutral + p.n_dead as in_groups, count(l.latent) as latents_listed
from language_profiles p
left join latent_profiles l on l.run_id = p.run_id and l.sae_id = p.sae_id and l.language = p.language
group by all
having in_groups <> p.n_latents or latents_listed <> p.n_latents or count(distinct l.latent) <> p.n_latents
    or count(l.latent) filter (l.gender_group = 'female') <> any_value(p.n_female)
    or count(l.latent) filter (l.stereotype_group = 'female') <> coalesce(any_value(p.n_stereotype_female), 0);
