"""The labels reach the numbers asked of them on public data with known gender."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebias.corpus.label_benchmark import BenchmarkRow, score_benchmarks, share
from saebias.errors import InputError

FLOORS = [
    ("mt_geneval", "en", "F", "sentence accuracy", 0.97),
    ("mt_geneval", "en", "M", "sentence accuracy", 0.97),
    ("mt_geneval", "en", "F", "word precision", 0.95),
    ("mt_geneval", "en", "M", "word precision", 0.95),
    ("mt_geneval", "ar", "both", "pair ordering", 0.90),
    ("mt_geneval", "ar", "F", "sentence accuracy", 0.85),
    ("mt_geneval", "ar", "M", "sentence accuracy", 0.85),
    ("mt_geneval", "ar", "F", "word precision", 0.85),
    ("mt_geneval", "ar", "both", "word precision", 0.85),
    # Some masculine forms that are not marked in the data are other men, so the masculine figure is a lower bound.
    ("mt_geneval", "ar", "M", "word precision", 0.80),
    ("mt_geneval_context", "ar", "both", "pair ordering", 0.90),
    ("xvnli", "ar", "F", "agrees with English", 0.95),
    ("xvnli", "ar", "M", "agrees with English", 0.95),
    ("winogender", "en", "N", "sentence accuracy", 0.99),
    ("winobias", "en", "F", "sentence accuracy", 0.99),
    ("winobias", "en", "M", "sentence accuracy", 0.99),
    ("winomt", "en", "F", "sentence accuracy", 0.99),
    ("winomt", "en", "M", "sentence accuracy", 0.99),
    ("aragenderbias", "ar", "F", "inanimate feminine nouns not called F", 0.98),
    ("emoji", "en", "F", "sentence accuracy", 1.0),
    ("emoji", "en", "M", "sentence accuracy", 1.0),
    ("emoji", "ar", "F", "sentence accuracy", 1.0),
    ("emoji", "ar", "M", "sentence accuracy", 1.0),
]


@pytest.fixture(scope="module")
def rows() -> list[BenchmarkRow]:
    folder = Path(__file__).parents[3] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the public data with known gender is not beside this checkout")
    return score_benchmarks(folder)


@pytest.mark.parametrize(("dataset", "language", "gender", "measure", "floor"), FLOORS)
def test_the_labels_reach_their_floor(rows: list[BenchmarkRow], dataset: str, language: str, gender: str, measure: str, floor: float) -> None:
    (row,) = [row for row in rows if (row.dataset, row.language, row.gender, row.measure) == (dataset, language, gender, measure)]
    assert row.value >= floor, row


def test_english_women_and_men_are_read_equally_well(rows: list[BenchmarkRow]) -> None:
    values = {row.gender: row.value for row in rows if (row.dataset, row.language, row.measure) == ("mt_geneval", "en", "sentence accuracy")}
    assert abs(values["F"] - values["M"]) < 0.01


def test_every_row_has_an_interval_around_its_value(rows: list[BenchmarkRow]) -> None:
    assert rows
    for row in rows:
        assert row.n > 0
        assert 0.0 <= row.low <= row.value <= row.high <= 1.0


def test_a_share_of_nothing_is_not_a_number() -> None:
    row = share("x", "en", "F", "m", 0, 0)
    assert row.value != row.value
    assert row.low != row.low


def test_the_interval_is_wilsons() -> None:
    # Newcombe (1998), table I: 81 of 263 gives .2553 to .3662.
    row = share("x", "en", "F", "m", 81, 263)
    assert (round(row.low, 4), round(row.high, 4)) == (0.2553, 0.3662)


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds none of mt_geneval"):
        score_benchmarks(tmp_path)
