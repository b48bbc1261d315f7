"""The planted catalogue of tests/sql, its tables for the figures, and the report made from them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sql"))
sys.path.insert(0, str(Path(__file__).parent))

from planted_catalogue import planted_catalogue

Ask = Callable[[str], pa.Table]


@pytest.fixture(scope="session")
def skewed() -> Iterator[Ask]:
    """Ask SQL of a catalogue with a planted skew."""
    with planted_catalogue() as con:
        yield asking(con)


@pytest.fixture(scope="session")
def null() -> Iterator[Ask]:
    """Ask SQL of a catalogue without any stereotype."""
    with planted_catalogue(skewed=False) as con:
        yield asking(con)


def asking(con: duckdb.DuckDBPyConnection) -> Ask:
    """A function that answers SQL with an Arrow table."""
    return lambda text: con.sql(text).to_arrow_table()
