-- What each behaviour and steering metric is called in a sentence, its unit, and the value that means "nothing".
create or replace view metric_names as
select * from (
    values
    (1, 'stereotype_spread', 'stereotype: spread of P(woman) over professions', 'SD of a probability', 0.0),
    (2, 'masculine_default', 'masculine default: 1/2 - mean P(woman)', 'probability', 0.0),
    (3, 'outcome_correct', 'clear images: gender said as shown', 'share', null),
    (4, 'outcome_wrong', 'clear images: other gender said', 'share', 0.0),
    (5, 'outcome_neutral', 'clear images: no gender said', 'share', null),
    (6, 'outcome_mixed', 'clear images: both genders said', 'share', 0.0),
    (7, 'outcome_no_person', 'clear images: no person said', 'share', 0.0),
    (8, 'outcome_explicit_male', 'male captions that say it in a word, not by grammar alone', 'share', null),
    (9, 'misgender_gap', 'misgendering of women minus of men', 'difference of shares', 0.0),
    (10, 'neutral_gap', 'neutralising of women minus of men', 'difference of shares', 0.0),
    (11, 'p_female', 'P(woman) on ambiguous images', 'probability', 0.5),
    (12, 'p_neutral', 'P(no gender) on ambiguous images', 'probability', null),
    (13, 'reference_alignment', 'rank correlation with the reference shares', 'Spearman', 0.0),
    (14, 'plant_rmse', 'error against the planted shares (RMSE)', 'probability', 0.0),
    (15, 'plant_slope', 'slope against the planted shares', 'slope', 1.0),
    (16, 'amplification_dataset', 'skew of the training captions', 'mean |share - 1/2|', 0.0),
    (17, 'amplification_exact', 'skew of the model''s exact probabilities', 'mean |share - 1/2|', 0.0),
    (18, 'amplification_sample', 'skew of sampled captions', 'mean |share - 1/2|', 0.0),
    (19, 'amplification_greedy', 'skew of greedy captions', 'mean |share - 1/2|', 0.0),
    (20, 'amplification_step_exact', 'added by the model', 'mean |share - 1/2|', 0.0),
    (21, 'amplification_step_sample', 'added by sampling', 'mean |share - 1/2|', 0.0),
    (22, 'amplification_step_greedy', 'added by greedy decoding', 'mean |share - 1/2|', 0.0),
    (23, 'leakage', 'gender readable from masked captions', 'balanced accuracy', 0.5),
    (30, 'clear_accuracy', 'clear images: gender said as shown', 'share', null),
    (31, 'clear_harm', 'harm on clear images: wrong + over-neutral', 'share', 0.0),
    (32, 'clear_wrong', 'clear images: other gender said', 'share', 0.0),
    (33, 'clear_neutral', 'clear images: no gender said', 'share', 0.0),
    (34, 'selective_debias', 'stereotype removed within the harm budgets', '1 - S(a)/S(0)', 0.0),
    (35, 'kl_to_baseline', 'change of the output distribution', 'KL, nats', 0.0),
    (36, 'cross_entropy_rise', 'rise of caption cross-entropy', 'nats', 0.0),
    (37, 'length_ratio', 'caption length over baseline', 'ratio', 1.0),
    (38, 'captions_changed', 'captions that changed', 'share', 0.0),
    (39, 'agreement_consistency', 'captions whose gender marks agree', 'share', 1.0)
) as names (place, metric, label, unit, null_value);
comment on view metric_names is 'What each metric is called in a sentence, its unit, and the value that means nothing happens.';
