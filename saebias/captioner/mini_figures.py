"""Figures of the captioner from real parts, on pictures that it was not trained on.

Two are given: whether it prefers the gender shown on clear pictures, and how often it says "woman" where the picture does not say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from saebias.captioner.captions import continuations
from saebias.captioner.mini_training import NO_AMBIGUOUS
from saebias.captioner.scenes import Scene, plan_scenes, render_scene
from saebias.captioner.spec import CaptionerSpec
from saebias.identifiers import LANGUAGES
from saebias.stats.shares import share_estimate
from saebias.vlm.forward import PrefixState, image_prefix
from saebias.vlm.images import encode_images
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.scoring import decision_gap

RIGHT, WOMAN = "prefers the gender shown", "mean P(woman)"
FIGURE_PARTS = ("seen", "held_out_tone")
BATCH = 16


@dataclass(frozen=True)
class MiniFigure:
    """One figure of one part and language, with a 95 % interval over drawings (cluster-adjusted Wilson).

    RIGHT is the share of clear pictures whose gender gets more probability, WOMAN the mean of P(F | F or M) over pictures that show no gender.
    """

    name: str
    part: str
    language: str
    value: float
    low: float
    high: float
    n_images: int
    n_drawings: int


def mini_figures(loaded: LoadedModel, spec: CaptionerSpec, *, n_images: int, seed: int) -> list[MiniFigure]:
    """The figures on fresh scenes: clear ones in the seen skin tones and in the one that training never showed, then ambiguous ones."""
    rows = []
    for part in FIGURE_PARTS:
        scenes = plan_scenes(spec, n_images, seed, ambiguous_share=NO_AMBIGUOUS, part=part)
        shows_woman = np.array([scene.gender == "F" for scene in scenes])
        rows += [_figure(RIGHT, part, language, (gap_B > 0) == shows_woman, scenes) for language, gap_B in gaps(loaded, scenes, spec).items()]
    open_scenes = plan_scenes(spec, n_images, seed, ambiguous_share=1 - NO_AMBIGUOUS)
    return rows + [_figure(WOMAN, "ambiguous", language, expit(gap_B), open_scenes) for language, gap_B in gaps(loaded, open_scenes, spec).items()]


def _figure(name: str, part: str, language: str, values_B: np.ndarray, scenes: list[Scene]) -> MiniFigure:
    found = share_estimate(values_B.astype(float), [scene.cluster for scene in scenes])
    return MiniFigure(name, part, language, found.value, found.low, found.high, len(scenes), found.n_clusters)


def gaps(loaded: LoadedModel, scenes: list[Scene], spec: CaptionerSpec) -> dict[str, np.ndarray]:
    """log P(F) - log P(M) of every scene per language, nats."""
    texts: dict[tuple[str, str, str], list[str]] = {}
    for row in continuations(spec):
        texts.setdefault((row.context, row.language, row.gender), []).append(row.text)
    found: dict[str, list[np.ndarray]] = {language: [] for language in LANGUAGES}
    for start in range(0, len(scenes), BATCH):
        block = scenes[start : start + BATCH]
        features = encode_images(loaded, [render_scene(scene, spec) for scene in block])
        prefix: PrefixState | None = None
        for language in LANGUAGES:
            inputs = build_inputs(loaded, features, ["{image}" + spec.prompt(language)] * len(block))
            prefix = image_prefix(loaded, inputs) if prefix is None else prefix.take(range(len(block)), inputs)
            sets = [[texts[scene.context, language, gender] for scene in block] for gender in ("F", "M")]
            found[language].append(decision_gap(loaded, inputs, sets[0], sets[1], prefix=prefix))
    return {language: np.concatenate(blocks) for language, blocks in found.items()}
