-- Numbers of the tools on latents that are null without a note that says why.
select 'latent_profiles' as "table", run_id, layer, language, 'latent ' || latent as what from latent_profiles where auroc is null and note is null
union all
select 'language_profiles', run_id, layer, language, 'stereotype' from language_profiles
where (n_stereotype_female is null or stereotype_spread is null) and stereotype_note is null
union all
select 'language_matches', run_id, layer, null, 'latent ' || latent_en from language_matches where score is null and note is null
union all
select 'language_contrast', run_id, layer, null, measure from language_contrast where value is null and note is null
union all
select 'language_verdicts', run_id, layer, null, verdict from language_verdicts where angle_degrees is null and note is null
union all
select 'latent_pairs', run_id, layer, language, latent_a || ' and ' || latent_b from latent_pairs where (p is null or pmi is null) and note is null
union all
select 'grammar_tests', run_id, layer, language, evidence from grammar_tests where n_selected is null and note is null;
