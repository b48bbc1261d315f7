-- Numbers that are null without a note that says why.
select 'behavior_metrics' as "table", run_id, metric as what, language from behavior_metrics where value is null and note is null
union all
select 'steering_effects', run_id, metric, language from steering_effects where value is null and note is null
union all
select 'probes', run_id, token_kind, train_language from probes where balanced_accuracy is null and note is null
union all
select 'factored_matrices', run_id, matrix, language from factored_matrices where effective_rank is null and reason is null
union all
select 'alignment', run_id, measure, null from alignment where value is null and note is null
union all
select 'sae_quality', run_id, token_kind, language from sae_quality where fvu is null and note is null
union all
select 'sae_cross_entropy', run_id, sae_id, language from sae_cross_entropy where (recovered_mean is null or recovered_zero is null) and note is null
union all
select 'latent_controls', run_id, sae_id, language from latent_controls where share_found is null and note is null;
