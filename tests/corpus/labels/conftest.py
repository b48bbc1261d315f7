"""Where the public data with known gender lies; tests that need it skip, saying so, where it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / ".." / "shared" / "data"
HERE = Path(__file__).parent


@pytest.fixture
def data_dir() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is absent: the public data with known gender is not beside this checkout")
    return DATA


def gold(language: str) -> list[tuple[str, bool | None, str]]:
    """(label, explicit or None, caption) of the hand-written captions; `m` in the file is masculine by grammar alone."""
    rows = []
    for line in (HERE / f"gold_{language}.tsv").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        label, text = line.split("\t")
        explicit = None if label not in "FMm" else label != "m"
        rows.append((label.upper(), explicit, text))
    return rows
