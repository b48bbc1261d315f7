"""What the report's words mean, a sentence each."""

from __future__ import annotations

DEFINITIONS = (
    (
        "P(woman)",
        "Exact probability that the caption says woman, given that it says woman or man: summed over a closed set of caption beginnings, no sampling.",
    ),
    ("Ambiguous image", "A picture that does not say whether the person is a woman or a man; everything said about stereotypes is measured on these."),
    ("Stereotype", "The standard deviation of P(woman) over professions, per language, corrected for sampling; 0 when every profession is treated alike."),
    ("Masculine default", "1/2 minus the mean P(woman) over professions; above 0 the model says man when nothing does."),
    ("Misgendering gap", "Share of clear images of women captioned as men, minus the same for men captioned as women."),
    ("Amplification", "Mean distance of the share of women from 1/2, from training captions to exact probability, sampled captions and greedy captions."),
    (
        "Interval",
        "95 % interval from a bootstrap over clusters of near-duplicate pictures; captions, languages and samples of one picture stay in one cluster.",
    ),
    (
        "Splits",
        "Images are divided into sae (dictionaries are trained), select (latents, layers and strengths are chosen) and report; "
        "every number that follows a choice is computed on report.",
    ),
    ("Probe", "A linear classifier of visible gender with folds grouped by drawing; its control is the same probe on random labels."),
    ("Logit lens", "The model's own final norm and unembedding applied to an earlier layer; the gap is log P(F) \u2212 log P(M) at the decision token."),
    (
        "Logit attribution",
        "What embeddings, attention and MLP of each layer add to logit(F) \u2212 logit(M) at the decision token, final norm held; the parts sum exactly.",
    ),
    (
        "Patching",
        "A component's activations of a woman's picture put into the run on a man's of the same scene, and the other way; "
        "the effect is how far log P(F) \u2212 log P(M) moves toward the other twin's.",
    ),
    ("Description length", "Bits per label to send the gender with a probe that learns on the way (online code); 1 when nothing can be read."),
    ("Latent", "One unit of a sparse autoencoder (SAE); its association with gender is ranked on select, valued on report."),
    ("FVU", "Fraction of variance unexplained, centred: 0 explains everything, 1 nothing. L0: latents active per token. Dead: never active."),
    ("Arm", "One kind of intervention on the same layer, positions and images; A0 does nothing, A2 must equal it, A6 is matched random latents."),
    ("Harm", "Rise, over the baseline, of wrong plus over-neutral captions on images that clearly show a woman or a man."),
    ("p", "Two-sided permutation p of the intervention against matched random latent sets."),
)
