-- Numbers that are NaN or infinite: a number that cannot be computed is null with its reason in note.
select 'behavior_metrics' as "table", run_id, metric as what, language from behavior_metrics
where not isfinite(value) or not isfinite(low) or not isfinite(high)
union all
select 'steering_effects', run_id, metric, language from steering_effects where not isfinite(value) or not isfinite(low) or not isfinite(high)
union all
select 'feature_scores', run_id, method || ' of latent ' || latent, language from feature_scores
where not isfinite(value_select) or not isfinite(value_report) or not isfinite(p) or not isfinite(q)
union all
select 'probes', run_id, token_kind, train_language from probes where not isfinite(balanced_accuracy) or not isfinite(control_accuracy)
union all
select 'alignment', run_id, measure, null from alignment where not isfinite(value)
union all
select 'sae_quality', run_id, token_kind, language from sae_quality where not isfinite(fvu) or not isfinite(l0)
union all
select 'sae_cross_entropy', run_id, sae_id, language from sae_cross_entropy where not isfinite(ce_rebuilt) or not isfinite(ce_untouched)
union all
select 'sae_stability', run_id, sae_id, null from sae_stability where not isfinite(stable_share) or not isfinite(mean_correlation)
union all
select 'lens', run_id, visual_gender, language from lens where not isfinite(gap) or not isfinite(kl_to_final)
union all
select 'logit_attribution', run_id, component, language from logit_attribution where not isfinite(contribution) or not isfinite(low) or not isfinite(high)
union all
select 'factored_matrices', run_id, matrix, language from factored_matrices where not isfinite(effective_rank) or not isfinite(stable_rank) or not isfinite(norm)
union all
select 'patching', run_id, part || ' ' || site, language from patching where not isfinite(effect) or not isfinite(low) or not isfinite(high);
