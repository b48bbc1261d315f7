"""The profile on the shipped captioners: seeing a gender is found in both, following a stereotype only in the one that has one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from saebias.captioner.captions import continuations
from saebias.captioner.scenes import plan_scenes, render_pixels
from saebias.captioner.shipped import shipped_model
from saebias.captioner.spec import load_spec
from saebias.identifiers import HookPoint
from saebias.mechanistic.decisions import decisions_of, gap_of
from saebias.mechanistic.language_profile import LanguageFeatureProfile, LanguageProfile
from saebias.vlm.forward import activations
from saebias.vlm.images import encode_images
from saebias.vlm.loading import LoadedModel, load_model

pytestmark = pytest.mark.slow

LAYER, N_SCENES, LATENTS = 5, 400, 600


@cache
def loaded(kind: str) -> LoadedModel:
    return load_model(str(shipped_model(kind)), offline=True)


@cache
def profile(kind: str, language: str, seed: int) -> LanguageProfile:
    """The profile of a dictionary of random directions: what the law says of latents it says of any."""
    spec, model = load_spec(kind), loaded(kind)
    scenes = plan_scenes(spec, N_SCENES, seed, ambiguous_share=0.6)
    said: dict[tuple[str, str], list[str]] = {}
    for each in continuations(spec):
        if each.language == language:
            said.setdefault((each.context, each.gender), []).append(each.text)
    texts = [[said[scene.context, gender] for scene in scenes] for gender in ("F", "M")]
    pictures = encode_images(model, render_pixels(scenes, spec))
    decisions = decisions_of(model, pictures, ["{image}" + spec.prompt(language)] * len(scenes), *texts)
    last = HookPoint(model.adapter.n_layers - 1)
    seen = activations(model, decisions.inputs, [HookPoint(LAYER), last])
    gap_N = gap_of(model, model.adapter.unembed(decisions.at_column(seen[last])), decisions).numpy()
    x_ND = decisions.at_column(seen[HookPoint(LAYER)]).numpy()
    x_ND = (x_ND - x_ND.mean(0)) / x_ND.std(0)
    pushed_NF = x_ND @ np.random.default_rng(900 + seed).standard_normal((x_ND.shape[1], LATENTS)) / np.sqrt(x_ND.shape[1])
    codes_NF = np.maximum(pushed_NF - 0.5, 0)
    gender_N, context_N, cluster_N = (np.array(column) for column in zip(*((s.gender, s.context, s.cluster) for s in scenes), strict=True))
    told = {"p_female_N": 1 / (1 + np.exp(-gap_N.astype(float))), "contexts_N": context_N}
    return LanguageFeatureProfile(n_permutations=999).read("random", language, codes_NF, gender_N, cluster_N, seed=seed, **told)


@pytest.mark.parametrize("language", ["en", "ar"])
@pytest.mark.parametrize("seed", [1, 2])
def test_on_the_captioner_without_a_skew_latents_follow_the_gender_shown_and_none_the_stereotype(language: str, seed: int) -> None:
    row = profile("null", language, seed).row()
    assert row.n_female + row.n_male > 20
    assert (row.n_stereotype_female, row.n_stereotype_male) == (0, 0)
    assert "no stereotype to follow" in row.stereotype_note


def test_on_the_captioner_with_a_skew_latents_follow_the_stereotype_and_none_does_with_contexts_exchanged() -> None:
    rows = [profile("skewed", language, 1).row() for language in ("en", "ar")]
    assert sum((row.n_stereotype_female or 0) + (row.n_stereotype_male or 0) for row in rows) >= 5
    assert [row.n_stereotype_permuted for row in rows] == [0, 0]
