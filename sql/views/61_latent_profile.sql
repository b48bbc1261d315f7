-- Every latent in each language: firing, AUROC of women against men with interval, group, and the contexts that it is most active in.
create or replace view latent_profile as
select r.model, p.layer, p.latent, p.language, p.gender_group, p.firing_rate, p.active_mean, p.auroc, p.low, p.high, p.p, p.q,
    p.stereotype_group, p.stereotype_correlation, p.stereotype_low, p.stereotype_high, p.stereotype_p, p.stereotype_q, p.top_contexts, p.note
from latent_profiles p
join latest_runs r on r.run_id = p.run_id;
comment on view latent_profile is 'Latents by the gender that they follow, in each language.';
