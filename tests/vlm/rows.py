"""Batches for the tests: the same three rows for every family, without pictures where it reads text only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from saebias.vlm.inputs import ModelInputs, Padding, build_inputs
from saebias.vlm.loading import LoadedModel
from tests.vlm.conftest import CAPTIONS, PROMPTS


def prompts_of(loaded: LoadedModel) -> list[str]:
    return list(PROMPTS) if loaded.processor is not None else [prompt.replace("{image}", "") for prompt in PROMPTS]


def batch(loaded: LoadedModel, images: Sequence[Any], captions: Sequence[str] | None = CAPTIONS, *, padding: Padding | None = None) -> ModelInputs:
    return build_inputs(loaded, images if loaded.processor is not None else None, prompts_of(loaded), captions, padding=padding)


def one_row(loaded: LoadedModel, images: Sequence[Any], row: int, caption: str | None) -> ModelInputs:
    pictures = [images[row]] if loaded.processor is not None else None
    return build_inputs(loaded, pictures, [prompts_of(loaded)[row]], None if caption is None else [caption])


def real(inputs: ModelInputs, row: int, x_BTD: Tensor) -> Tensor:
    """The columns of one row that are no padding."""
    return x_BTD[row, inputs.attention_mask_BT[row].bool()]


def assert_same(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> None:
    """Equal up to float32 rounding relative to the largest value."""
    scale = max(1.0, float(other.abs().max()))
    torch.testing.assert_close(one, other, atol=tolerance * scale, rtol=0)
