"""Laws of the pairs of pictures: spread evenly whatever the order, and a named pair is a woman and a man or an error naming its line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from saebias.errors import InputError, NotEnoughData
from saebias.stages.scene_pairs import named_pairs, spread_evenly


def samples(folder: Path | None = None) -> list[dict]:
    rows = []
    for number in range(60):
        gender, context = "FM"[number % 2], ("cook", "judge", "pilot")[number % 3]
        path = "" if folder is None else str(folder / f"{number}.png")
        rows.append({"sample_id": f"s{number:02d}", "visual_gender": gender, "context": context, "cluster_id": f"{context}{number % 12}", "image_path": path})
        if folder is not None:
            Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    return rows


def test_samples_are_spread_over_contexts_genders_and_picture_groups_whatever_their_order() -> None:
    rows = samples()
    chosen = spread_evenly(rows, 12, seed=3)
    assert set(Counter((row["visual_gender"], row["context"]) for row in chosen).values()) == {2}
    assert len({row["cluster_id"] for row in chosen}) == 12
    assert spread_evenly(rows[::-1], 12, seed=3) == chosen and spread_evenly(rows, 12, seed=4) != chosen
    assert len(spread_evenly(rows, 1000, seed=3)) == 60


def write(folder: Path, text: str) -> Path:
    (folder / "pairs.csv").write_text(text, encoding="utf-8")
    return folder / "pairs.csv"


def test_named_pairs_hold_the_pictures_named(tmp_path: Path) -> None:
    (first, second) = named_pairs(samples(tmp_path), write(tmp_path, "woman,man\ns00,s01\ns02,s03\n"))
    assert (first.sample_id, second.context) == ("s00/s01", "pilot")
    assert second.woman.getpixel((0, 0)) == (2, 0, 0) and second.man.getpixel((0, 0)) == (3, 0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("woman,man\ns01,s00\n", "line 2: woman 's01' shows M"),
        ("woman,man\ns00,s01\ns02,nobody\n", "line 3: man 'nobody' is no sample"),
        ("f,m\ns00,s01\n", "no column man or woman"),
    ],
)
def test_a_wrong_pair_is_an_error_naming_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        named_pairs(samples(), write(tmp_path, text))


def test_no_pairs_are_too_little_data_and_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughData, match="no pairs"):
        named_pairs(samples(), write(tmp_path, "woman,man\n"))
    with pytest.raises(InputError, match="give a readable CSV file"):
        named_pairs(samples(), tmp_path / "missing.csv")
