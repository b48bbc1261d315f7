"""Laws of patching: everything patched is the other run, nothing to patch is no effect, and a picture's tokens carry what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.mechanistic.patching import patch_components
from saebias.vlm.inputs import ModelInputs, build_inputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.scoring import decision_gap

N = 4
F_TEXTS, M_TEXTS = [["b"]] * N, [["c"]] * N


@pytest.fixture(scope="module")
def loaded(build_family: Callable[[str], LoadedModel]) -> LoadedModel:
    return build_family("gemma3")


def inputs_of(loaded: LoadedModel, seed: int, prompt: str = "{image}describe ") -> ModelInputs:
    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(N)]
    return build_inputs(loaded, pictures, [prompt] * N)


def test_everything_patched_is_the_womans_run(loaded: LoadedModel) -> None:
    woman, man = inputs_of(loaded, 1), inputs_of(loaded, 2)
    total = (decision_gap(loaded, woman, F_TEXTS, M_TEXTS) - decision_gap(loaded, man, F_TEXTS, M_TEXTS)).mean()
    for layer in range(loaded.adapter.n_layers):
        (row,) = patch_components(loaded, woman, man, F_TEXTS, M_TEXTS, range(N), hooks=[HookPoint(layer)], kinds=["all"], seed=1, n_draws=50)
        assert row.effect == pytest.approx(total, abs=1e-5) and row.total == pytest.approx(total)


def test_a_run_patched_with_itself_does_not_move(loaded: LoadedModel) -> None:
    man = inputs_of(loaded, 2)
    hooks = [HookPoint(0), HookPoint(1, "mlp_out"), HookPoint(1, "attn_out")]
    rows = patch_components(loaded, man, man, F_TEXTS, M_TEXTS, range(N), hooks=hooks, seed=1, n_draws=50)
    assert len(rows) == 6 and all(abs(row.effect) < 1e-5 and row.total == 0 for row in rows)


def test_at_the_last_layer_only_the_text_still_matters(loaded: LoadedModel) -> None:
    last = HookPoint(loaded.adapter.n_layers - 1)
    image, text = patch_components(loaded, inputs_of(loaded, 1), inputs_of(loaded, 2), F_TEXTS, M_TEXTS, range(N), hooks=[last], seed=1, n_draws=50)
    assert image.token_kind == "image" and abs(image.effect) < 1e-6
    assert text.effect == pytest.approx(text.total, abs=1e-5)


def test_inputs_that_do_not_pair_are_refused(loaded: LoadedModel) -> None:
    woman, longer = inputs_of(loaded, 1), inputs_of(loaded, 2, "{image}describe the picture")
    with pytest.raises(InputError, match="same prompt and picture size"):
        patch_components(loaded, woman, longer, F_TEXTS, M_TEXTS, range(N), hooks=[HookPoint(0)], seed=1)
    renumbered = replace(woman, row_B=torch.arange(N) + 5)
    with pytest.raises(InputError, match="without row_ids"):
        patch_components(loaded, woman, renumbered, F_TEXTS, M_TEXTS, range(N), hooks=[HookPoint(0)], seed=1)
