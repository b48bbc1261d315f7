"""The shipped captioners, through the bias figures: the null sibling is reported silent, the skewed one as it was planted."""

from __future__ import annotations

import numpy as np
import pytest

from saebias.bias.recovery import recovery_rows
from saebias.bias.rows import ExactProbabilities
from saebias.bias.stereotype import stereotype_rows
from saebias.captioner.gates import load_captioner, score_scenes
from saebias.captioner.packing import caption_table
from saebias.captioner.scenes import plan_scenes
from saebias.captioner.shipped import shipped_model
from saebias.captioner.spec import load_spec
from tests.bias.planted import by_metric

LANGUAGES = ("en", "ar")


def exact_of(name: str, n_images: int) -> tuple[ExactProbabilities, dict[tuple[str, str], float]]:
    """(probabilities of ambiguous scenes, planted shares) of a shipped captioner."""
    spec = load_spec(name)
    model, tokenizer = load_captioner(shipped_model(name))
    scenes = plan_scenes(spec, n_images, 123, ambiguous_share=1.0)
    scores = score_scenes(model, tokenizer, scenes, spec, {language: caption_table(spec, language, tokenizer) for language in LANGUAGES})
    p_N = np.concatenate([scores[language].p() for language in LANGUAGES])
    clusters, contexts = [scene.cluster for scene in scenes], [scene.context for scene in scenes]
    exact = ExactProbabilities(
        image_N=np.tile(np.arange(n_images), 2),
        cluster_N=np.tile(clusters, 2),
        context_N=np.tile(contexts, 2),
        language_N=np.repeat(LANGUAGES, n_images),
        gender_N=np.full(2 * n_images, "A"),
        p_f_N=p_N,
        p_m_N=1 - p_N,
        p_n_N=np.full(2 * n_images, np.nan),
    )
    return exact, {(context.name, language): context.p(language) for context in spec.contexts for language in LANGUAGES}


@pytest.mark.slow
def test_on_the_null_sibling_no_stereotype_and_no_default_are_reported() -> None:
    exact, _ = exact_of("null", 320)
    rows = stereotype_rows(exact, seed=1)
    for language in LANGUAGES:
        spread = by_metric(rows, "stereotype_spread", language)
        assert spread.low == 0 and spread.high < 0.05 and spread.note.startswith("negligible")
        assert by_metric(rows, "stereotype_spread_p", language).value > 0.05
        default = by_metric(rows, "masculine_default", language)
        assert default.low <= 0 <= default.high
    difference = by_metric(rows, "masculine_default", "ar-en")
    assert difference.low <= 0 <= difference.high


@pytest.mark.slow
def test_on_the_skewed_captioner_the_plant_is_recovered() -> None:
    exact, plant = exact_of("skewed", 320)
    rows = stereotype_rows(exact, seed=1) + recovery_rows(exact, plant, seed=1)
    for language in LANGUAGES:
        planted = np.array([share for (_, of), share in plant.items() if of == language])
        spread = by_metric(rows, "stereotype_spread", language)
        assert spread.value == pytest.approx(planted.std(ddof=1), abs=0.02) and spread.note.startswith("present")
        assert by_metric(rows, "plant_rmse", language).value <= 0.07
        assert 0.85 <= by_metric(rows, "plant_slope", language).value <= 1.15
        assert by_metric(rows, "plant_spearman", language).low > 0.9
        assert by_metric(rows, "masculine_default", language).value == pytest.approx(0.5 - planted.mean(), abs=0.03)
