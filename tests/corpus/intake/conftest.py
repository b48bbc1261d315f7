"""Tables and pictures that the intake tests read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

Rows = list[dict[str, object]]

FORMATS = ("csv", "tsv", "jsonl", "parquet")


def write_table(path: Path, rows: Rows) -> Path:
    """Rows as CSV, TSV, JSON lines or Parquet, by the suffix of `path`; columns are the keys of the first row."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """`table(rows, "csv")` writes captions.csv beside pictures/ and gives its path."""

    def write(rows: Rows, suffix: str = "csv") -> Path:
        return write_table(tmp_path / f"captions.{suffix}", rows)

    return write


def good_row(index: int = 0, **changes: object) -> dict[str, object]:
    """A row that nothing is wrong with."""
    row = {"sample_id": f"s{index}", "image": f"pictures/{index}.png", "caption_en": f"a cook with {index + 2} balls", "caption_ar": "طباخة مع كرات"}
    return {**row, "context": "cook", "visual_gender": "F", **changes}


@pytest.fixture(name="good_row")
def good_row_fixture() -> Callable[..., dict[str, object]]:
    return good_row


@pytest.fixture
def picture() -> Callable[..., Path]:
    """`picture(path, seed=3)` saves coloured blocks that differ by seed, in the format of the suffix."""

    def save(path: Path, *, seed: int = 0, size: tuple[int, int] = (96, 64), mode: str = "RGB", **options: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed).integers(0, 256, size=(8, 12, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, **options)
        return path

    return save
