"""What the tests of several tools share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from saebias.vlm.loading import LoadedModel


@pytest.fixture(scope="session")
def build_family() -> Callable[[str], LoadedModel]:
    """`build_family(name)`: the tiny model of a family, from the builders that the tests of the models use."""
    if "families" not in sys.modules:
        spec = importlib.util.spec_from_file_location("families", Path(__file__).parents[1] / "vlm" / "families.py")
        assert spec is not None and spec.loader is not None
        sys.modules["families"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["families"])
    return sys.modules["families"].build_family
