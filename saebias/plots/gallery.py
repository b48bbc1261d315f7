"""Every figure there is: its name, title, the view it is drawn from, and what its caption says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from saebias.plots.behaviour import draw_amplification, draw_outcomes, outcome_rows
from saebias.plots.circuits import contrast_rows, draw_attribution, draw_patching
from saebias.plots.dictionaries import draw_sae_quality, quality_rows
from saebias.plots.dictionary_training import curve_rows as trained_rows
from saebias.plots.dictionary_training import draw_stability, draw_training_curves
from saebias.plots.directions import direction_rows, draw_gender_direction
from saebias.plots.emergence import draw_cross_lingual, draw_layer_emergence
from saebias.plots.frontier import draw_frontier
from saebias.plots.language_latents import draw_claim_ladder, draw_language_profile, draw_latent_language, draw_latent_matching
from saebias.plots.latent_pairs import draw_causal_pairs, draw_latent_graph, draw_word_latents, graph_rows
from saebias.plots.latents import draw_feature_heatmap, heatmap_rows
from saebias.plots.professions import draw_plant_recovery, draw_profession_skew
from saebias.plots.random_sets import draw_matching_balance, draw_random_null, null_rows
from saebias.plots.spectra import draw_spectra
from saebias.plots.steering import draw_steering_curves, draw_steering_transfer
from saebias.plots.steering_series import curve_rows, frontier_rows, transfer_rows
from saebias.plots.tables import Row, Table, rows_of
from saebias.plots.words import draw_image_words, draw_lens_words, shown_image_rows, word_rows


def _every_row(table: Table) -> list[Row]:
    return rows_of(table, "of the gallery")


@dataclass(frozen=True)
class GalleryFigure:
    """One figure: `draw` takes the rows of `view` (a name in sql/views, ordered or not); `caption` is one or two sentences."""

    name: str
    title: str
    view: str
    draw: Callable[[Table], Figure]
    section: str
    caption: str
    keep: Callable[[Table], list[Row]] = _every_row
    """The rows that `draw` puts on paper, of those it is given: what the CSV beside the figure holds."""


GALLERY = (
    GalleryFigure(
        "profession_skew",
        "Who is called a woman when the picture does not say",
        "profession_skew",
        draw_profession_skew,
        "bias",
        "Exact P(woman | woman or man) on ambiguous images, per profession and language; a tick marks the planted share where one is known.",
    ),
    GalleryFigure(
        "plant_recovery",
        "What was planted, and what was found again",
        "plant_recovery",
        draw_plant_recovery,
        "bias",
        "The share of women planted in the training captions against the one recovered from the model; on the line the analysis tells the truth.",
    ),
    GalleryFigure(
        "outcomes",
        "Clear images: what the captions say",
        "outcomes",
        draw_outcomes,
        "bias",
        "Greedy captions of images that show a woman or a man: gender correct, wrong, left open, mixed, or no person named.",
        outcome_rows,
    ),
    GalleryFigure(
        "amplification",
        "Who adds the skew: the data, the model, or the decoding",
        "amplification",
        draw_amplification,
        "bias",
        "Skew of the training captions, of the model's exact probabilities, of sampled and of greedy captions, and what each step adds.",
    ),
    GalleryFigure(
        "layer_emergence",
        "Where in the model gender appears",
        "layer_emergence",
        draw_layer_emergence,
        "where",
        "A linear probe and the logit lens at the decision token, layer by layer; a probe means something only where it beats its control.",
    ),
    GalleryFigure(
        "feature_heatmap",
        "The latents that carry gender",
        "latent_ranking",
        draw_feature_heatmap,
        "where",
        "The strongest latents of each layer for the gender a picture shows and for the stereotype: two targets, often two sets of latents.",
        heatmap_rows,
    ),
    GalleryFigure(
        "cross_lingual",
        "How alike English and Arabic are inside",
        "cross_lingual",
        draw_cross_lingual,
        "where",
        "Alignment of the two languages by layer, to be read between the floor (chance) and the ceiling (agreement within one language).",
    ),
    GalleryFigure(
        "lens_words",
        "What each layer would say",
        "lens_words",
        draw_lens_words,
        "where",
        "The likeliest next token of every layer at the position that decides the gender, by the logit lens.",
        word_rows,
    ),
    GalleryFigure(
        "image_words",
        "What the picture's tokens stand near",
        "image_words",
        draw_image_words,
        "where",
        "Image tokens in words: the caption activations of other pictures that lie nearest to each, layer by layer.",
        shown_image_rows,
    ),
    GalleryFigure(
        "logit_attribution",
        "Which components write the gender",
        "component_attribution",
        draw_attribution,
        "where",
        "Direct contribution of embeddings, attention and MLPs to the logit difference between the gendered words; the parts sum to the model's own.",
        contrast_rows,
    ),
    GalleryFigure(
        "patching",
        "Where gender enters, and by which tokens it travels",
        "patching_effects",
        draw_patching,
        "where",
        "One component's activations of one twin's picture put into the run on the other's of the same scene, both ways: how far that alone moves the gap.",
    ),
    GalleryFigure(
        "matrix_spectra",
        "How many directions the model's matrices use",
        "matrix_spectra",
        draw_spectra,
        "quality",
        "Ranks of each dictionary through the unembedding, of each attention head, and of the activations; few directions mean few things can be said.",
    ),
    GalleryFigure(
        "gender_direction",
        "Gender directions in three dimensions",
        "gender_points",
        draw_gender_direction,
        "where",
        "Each mark is an image at the decision token, on the English gender direction, the Arabic one made orthogonal to it, and the largest variation left.",
        direction_rows,
    ),
    GalleryFigure(
        "language_profile",
        "Latents that follow gender, in each language",
        "language_profile",
        draw_language_profile,
        "where",
        "Live latents of each layer where the captioner is about to decide. Above: those that follow the gender a picture shows, which is seeing. "
        "Below: those that go with P(woman) over contexts where the picture shows none, which is bias. With labels permuted next to none may be left.",
    ),
    GalleryFigure(
        "latent_language",
        "Latents of one language, or of both",
        "latent_language",
        draw_latent_language,
        "where",
        "Latents that carry gender, by the languages they carry it in; that one says nothing in the other language is shown by equivalence, not assumed.",
    ),
    GalleryFigure(
        "latent_matching",
        "Which latent of one language is which of the other",
        "latent_matching",
        draw_latent_matching,
        "where",
        "Latents matched one to one over the same pictures, against the same matching with pictures paired wrongly.",
    ),
    GalleryFigure(
        "claim_ladder",
        "What may be claimed of gender in two languages",
        "claim_ladder",
        draw_claim_ladder,
        "where",
        "Four rungs, each harder than the one before: probes that cross over, directions, latents, and what an intervention carries over.",
    ),
    GalleryFigure(
        "word_latents",
        "How a word looks, or who is meant",
        "form_or_meaning",
        draw_word_latents,
        "where",
        "Latents tested on words whose form and meaning part ways: \u0633\u064a\u0627\u0631\u0629 is feminine in form and no person, "
        "and an English profession is the same word for a woman and a man.",
    ),
    GalleryFigure(
        "latent_graph",
        "Which latents work together",
        "latent_graph",
        draw_latent_graph,
        "where",
        "The chosen latents of one layer: edges join pairs whose codes go together differently on pictures of women and of men.",
        graph_rows,
    ),
    GalleryFigure(
        "causal_pairs",
        "Do two ablations add up?",
        "causal_interaction",
        draw_causal_pairs,
        "where",
        "Latents ablated one by one and in pairs on the model itself; off zero on the right, two latents do more or less together than alone.",
    ),
    GalleryFigure(
        "steering_curves",
        "What the interventions remove, and what they break",
        "steering_curves",
        draw_steering_curves,
        "remove",
        "Dose response of every arm. Grey: where matched random latents end up at the dose chosen for A3; nothing is said of other arms and doses.",
        curve_rows,
    ),
    GalleryFigure(
        "steering_frontier",
        "The price of removing the stereotype",
        "steering_frontier",
        draw_frontier,
        "remove",
        "Stereotype left against harm on clear images; the best intervention goes straight down.",
        frontier_rows,
    ),
    GalleryFigure(
        "steering_transfer",
        "Do one language's latents steer the other?",
        "steering_curves",
        draw_steering_transfer,
        "remove",
        "Latents chosen on images captioned in one language, ablated while the model writes in each; only this shows that debiasing carries over.",
        transfer_rows,
    ),
    GalleryFigure(
        "random_null",
        "More than random latents would do?",
        "random_null_sets",
        draw_random_null,
        "remove",
        "The spread left by the ablation against matched random latent sets of the same size.",
        null_rows,
    ),
    GalleryFigure(
        "matching_balance",
        "Are the random latents like the chosen ones?",
        "matching",
        draw_matching_balance,
        "quality",
        "Balance of the matched random latents on what they were matched for.",
    ),
    GalleryFigure(
        "sae_quality",
        "How well the dictionaries explain the model",
        "sae_quality_by_layer",
        draw_sae_quality,
        "quality",
        "Centred FVU, L0 and dead share of each dictionary per token kind and language, on images never trained on.",
        quality_rows,
    ),
    GalleryFigure(
        "dictionary_stability",
        "Would another seed find the same latents?",
        "dictionary_stability",
        draw_stability,
        "quality",
        "Latents of the analysed dictionary matched one to one with those of other seeds; the frozen random decoder shows what matching alone would find.",
    ),
    GalleryFigure(
        "training_curves",
        "How the dictionaries learned",
        "training_curves",
        draw_training_curves,
        "quality",
        "Variance left unexplained and dead latents while training, one line per dictionary.",
        trained_rows,
    ),
)
