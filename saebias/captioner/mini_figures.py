"""How well the captioner from real parts tells women from men: forced choice between the closed sets, on pictures it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saebias.captioner.captions import continuations
from saebias.captioner.mini_training import NO_AMBIGUOUS
from saebias.captioner.scenes import Scene, plan_scenes, render_scene
from saebias.captioner.spec import CaptionerSpec
from saebias.identifiers import LANGUAGES
from saebias.stats.shares import share_estimate
from saebias.vlm.images import encode_images
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.scoring import decision_gap

FIGURE_PARTS = ("seen", "held_out_tone")
BATCH = 16


@dataclass(frozen=True)
class ForcedChoice:
    """The share of clear pictures whose gender the captioner prefers, with a 95 % interval over drawings (cluster-adjusted Wilson)."""

    part: str
    language: str
    share: float
    low: float
    high: float
    n_images: int
    n_drawings: int


def forced_choice(loaded: LoadedModel, spec: CaptionerSpec, *, n_images: int, seed: int) -> list[ForcedChoice]:
    """The figures on fresh clear scenes in the seen skin tones, and in the one that training never showed; by the ordinary loader's model."""
    rows = []
    for part in FIGURE_PARTS:
        scenes = plan_scenes(spec, n_images, seed, ambiguous_share=NO_AMBIGUOUS, part=part)
        for language, gap_B in gaps(loaded, scenes, spec).items():
            is_right = (gap_B > 0) == np.array([scene.gender == "F" for scene in scenes])
            found = share_estimate(is_right.astype(float), [scene.cluster for scene in scenes])
            rows.append(ForcedChoice(part, language, found.value, found.low, found.high, len(scenes), found.n_clusters))
    return rows


def gaps(loaded: LoadedModel, scenes: list[Scene], spec: CaptionerSpec) -> dict[str, np.ndarray]:
    """log P(F) - log P(M) of every scene per language, nats."""
    texts: dict[tuple[str, str, str], list[str]] = {}
    for row in continuations(spec):
        texts.setdefault((row.context, row.language, row.gender), []).append(row.text)
    found: dict[str, list[np.ndarray]] = {language: [] for language in LANGUAGES}
    for start in range(0, len(scenes), BATCH):
        block = scenes[start : start + BATCH]
        features = encode_images(loaded, [render_scene(scene, spec) for scene in block])
        for language in LANGUAGES:
            inputs = build_inputs(loaded, features, ["{image}" + spec.prompt(language)] * len(block))
            sets = [[texts[scene.context, language, gender] for scene in block] for gender in ("F", "M")]
            found[language].append(decision_gap(loaded, inputs, sets[0], sets[1]))
    return {language: np.concatenate(blocks) for language, blocks in found.items()}
