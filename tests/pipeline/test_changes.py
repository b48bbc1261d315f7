"""A stage that has to run again names the files that are the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from saebias.errors import MissingParent
from saebias.pipeline.runner import run_stages
from saebias.report import SilentReporter
from tests.pipeline.test_runner import config
from tests.pipeline.toy import NUMBERS, TOTAL


def test_a_file_that_changed_since_the_stage_ran_is_named(tmp_path: Path) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(3)]
    table = tmp_path / "table.csv"
    for path in [*pictures, table]:
        path.write_text("as it was")
    stages = (replace(NUMBERS, inputs=lambda cfg: [table], many_inputs=lambda cfg: pictures), TOTAL)

    def extract(*overrides: str) -> None:
        run_stages(config(tmp_path / "artifacts", *overrides), stages, ["extract"], SilentReporter())

    with pytest.raises(MissingParent, match=r"which was never run with this configuration; run `saebias prepare` first"):
        extract()
    run_stages(config(tmp_path / "artifacts"), stages, ["prepare"], SilentReporter())
    extract()
    pictures[1].write_text("another!!")
    with pytest.raises(MissingParent, match=rf"ran before {pictures[1]} changed; run `saebias prepare` first, .*, or put back what was there"):
        extract()
    pictures[2].unlink()
    with pytest.raises(MissingParent, match=rf"ran before {pictures[1]} changed \(and 1 more\)"):
        extract()
    # Other settings were never run, whatever became of the files.
    with pytest.raises(MissingParent, match="never run with this configuration"):
        extract("data.n=77")
    pictures[1].write_text("as it was")
    pictures[2].write_text("as it was")
    extract()
