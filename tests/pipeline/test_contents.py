"""What decides a number is in the fingerprint: the bytes of pictures, not their names; specs given by name; the rules of the labels."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from saebias.captioner.spec import spec_files
from saebias.config.load import load_config
from saebias.errors import ConfigError
from saebias.pipeline import planning
from saebias.pipeline.contents import MEMORY, contents_digest
from saebias.pipeline.planning import plan
from saebias.stages.analyze_behavior import ANALYZE_BEHAVIOR
from saebias.stages.label_access import label_sources
from saebias.stages.outside_files import captioner_spec, table_pictures
from saebias.stages.prepare import PREPARE


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    return paths


def test_the_digest_is_of_the_bytes_and_not_of_the_times(pictures: list[Path], tmp_path: Path) -> None:
    before = contents_digest(pictures, tmp_path)
    os.utime(pictures[0], (1, 1))
    assert contents_digest(pictures, tmp_path) == before == contents_digest(reversed(pictures), tmp_path / "nowhere")
    content = pictures[0].read_bytes()
    pictures[0].write_bytes(content[:-1] + b"!")
    assert contents_digest(pictures, tmp_path) != before
    pictures[0].write_bytes(content)
    assert contents_digest(pictures, tmp_path) == before


def test_a_change_that_keeps_size_and_time_is_seen(pictures: list[Path], tmp_path: Path) -> None:
    before, known = contents_digest(pictures, tmp_path), pictures[1].stat()
    pictures[1].write_bytes(pictures[1].read_bytes()[:-1] + b"?")
    os.utime(pictures[1], ns=(known.st_atime_ns, known.st_mtime_ns))
    assert pictures[1].stat().st_size == known.st_size and contents_digest(pictures, tmp_path) != before


def test_a_missing_file_and_a_name_that_none_can_have_are_facts_and_no_errors(pictures: list[Path], tmp_path: Path) -> None:
    before = contents_digest(pictures, tmp_path)
    odd = [*pictures, tmp_path / "gone.png", tmp_path / ("x" * 5000), Path("a\0b"), tmp_path]
    assert len({before, contents_digest(odd, tmp_path), contents_digest(odd[:-1], tmp_path)}) == 3


def test_what_was_read_once_is_not_read_again_and_a_torn_memory_costs_only_time(pictures: list[Path], tmp_path: Path) -> None:
    before = contents_digest(pictures, tmp_path)
    memory = json.loads((tmp_path / MEMORY).read_text())
    assert set(memory) == {str(path) for path in pictures}
    # If the file were read again, the remembered digest would not come through.
    memory[str(pictures[0])][1] = "remembered"
    (tmp_path / MEMORY).write_text(json.dumps(memory))
    assert contents_digest(pictures, tmp_path) != before
    (tmp_path / MEMORY).write_text("{")
    assert contents_digest(pictures, tmp_path) == before


def test_changed_pictures_of_a_table_are_another_corpus(pictures: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("image,caption_en\n" + "".join(f"{path.name},a cook\n" for path in pictures) + "gone.png,a cook\n ,none\n")
    cfg = load_config(None, ["data.source=table", f"data.table={table}", f"runtime.artifacts={tmp_path / 'artifacts'}", "data.columns.caption_ar=null"])
    assert table_pictures(cfg) == [tmp_path / name for name in [*(path.name for path in pictures), "gone.png"]]
    before = plan(cfg, [PREPARE])["prepare"].fingerprint
    assert plan(cfg, [PREPARE])["prepare"].fingerprint == before
    pictures[3].write_bytes(b"another picture")
    after = plan(cfg, [PREPARE])["prepare"].fingerprint
    (tmp_path / "gone.png").write_bytes(b"here it is")
    assert len({before, after, plan(cfg, [PREPARE])["prepare"].fingerprint}) == 3
    assert not (tmp_path / "artifacts").exists(), "planning writes nothing where there is nothing"


def test_a_spec_given_by_name_counts_with_those_it_extends() -> None:
    names = {path.name for path in captioner_spec(load_config(None, []))}
    assert {"skewed.yaml", "common.yaml"} <= names
    assert captioner_spec(load_config(None, [])) == spec_files("skewed")
    assert set(spec_files("skewed")) <= set(PREPARE.inputs(load_config(None, [])))
    with pytest.raises(ConfigError, match="no captioner spec"):
        spec_files("nowhere")


@pytest.mark.parametrize("stage", [PREPARE, ANALYZE_BEHAVIOR], ids=lambda stage: stage.name)
def test_rules_of_the_labels_are_in_the_fingerprint_of_what_is_labelled(stage) -> None:
    assert set(label_sources()) <= set(stage.inputs(load_config(None, [])))
    assert any(path.suffix == ".py" for path in label_sources())


def test_a_changed_rule_is_another_run(tmp_path: Path) -> None:
    rule = tmp_path / "labels.py"
    rule.write_text("one rule")
    stage = replace(PREPARE, inputs=lambda cfg: [rule], reads=())
    before = plan(load_config(None, []), [stage])["prepare"].fingerprint
    rule.write_text("another")
    planning._content.cache_clear()
    assert plan(load_config(None, []), [stage])["prepare"].fingerprint != before
