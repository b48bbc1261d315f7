"""The planted catalogue, built once; every test reads it or works on its own copy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planted_catalogue import empty_catalogue, planted_catalogue


@pytest.fixture(scope="session")
def planted() -> Iterator[duckdb.DuckDBPyConnection]:
    """A catalogue with a planted skew."""
    with planted_catalogue() as con:
        yield con


@pytest.fixture(scope="session")
def empty() -> Iterator[duckdb.DuckDBPyConnection]:
    """A catalogue without a row."""
    with empty_catalogue() as con:
        yield con


@pytest.fixture
def damaged() -> Iterator[duckdb.DuckDBPyConnection]:
    """A planted catalogue of one's own, to be damaged."""
    with planted_catalogue() as con:
        yield con
