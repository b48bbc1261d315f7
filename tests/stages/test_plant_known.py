"""The planted shares are a truth about a model only where it learned from captions that follow them."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebias.captioner.shipped import shipped_model
from saebias.config.load import load_config
from saebias.stages.model_access import was_taught_plant


@pytest.mark.parametrize(
    ("model", "captioner", "taught"),
    [
        ("saebias:skewed", "skewed", True),
        ("saebias:null", "null", True),
        ("saebias:null", "skewed", False),
        ("saebias:mini-gemma3", "null", False),
        ("saebias:gemma3-270m", "null", False),
        ("google/gemma-3-4b-it", "skewed", False),
        (str(shipped_model("null")), "null", True),
        (str(shipped_model("null")), "skewed", False),
    ],
)
def test_a_plant_is_a_truth_about_the_models_that_were_taught_it(model: str, captioner: str, taught: bool) -> None:
    assert was_taught_plant(load_config(None, [f"model.name={model}", f'data.captioner="{captioner}"'])) is taught


def test_the_captioner_from_real_parts_names_the_plant_of_its_words_and_was_taught_none(tmp_path: Path) -> None:
    said = (shipped_model("null") / "provenance.json").read_text(encoding="utf-8").replace('"training"', '"recipe"')
    (tmp_path / "provenance.json").write_text(said, encoding="utf-8")
    assert not was_taught_plant(load_config(None, [f"model.name={tmp_path}", 'data.captioner="null"']))
