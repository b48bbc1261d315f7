"""Tiny models with random weights, one for every supported family, built from their config classes without any download."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from saebias.vlm.loading import LoadedModel
from tests.vlm.families import ALL_FAMILIES, IMAGE_FAMILIES, build_family

PROMPTS = ("{image}describe the picture:", "{image}صف:", "{image}describe:")
CAPTIONS = ("a woman cook with a ball", "طباخة مع كرة", "a man")


@pytest.fixture(scope="session", params=ALL_FAMILIES)
def family(request: pytest.FixtureRequest) -> LoadedModel:
    """Every family in turn, text-only decoders included."""
    return build_family(request.param)


@pytest.fixture(scope="session", params=IMAGE_FAMILIES)
def image_family(request: pytest.FixtureRequest) -> LoadedModel:
    """Every family whose image tokens stand in the sequence."""
    return build_family(request.param)


@pytest.fixture(scope="session")
def gemma3() -> LoadedModel:
    return build_family("gemma3")


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in PROMPTS]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
