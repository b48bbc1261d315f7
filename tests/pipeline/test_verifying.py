"""What was written is read back: one flipped bit is found, named, and made again alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from saebias.errors import MissingParent, StoreError
from saebias.pipeline.locks import shared
from saebias.pipeline.planning import plan
from saebias.pipeline.runner import run_stages
from saebias.pipeline.verifying import verify_runs
from saebias.report import SilentReporter
from tests.pipeline.test_runner import BOTH, config
from tests.pipeline.toy import TOYS


def verify(artifacts: Path) -> None:
    verify_runs(plan(config(artifacts), TOYS), BOTH, SilentReporter())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifacts = tmp_path_factory.mktemp("whole")
    run_stages(config(artifacts), TOYS, BOTH, SilentReporter())
    return artifacts


@pytest.mark.parametrize("how", ["flipped", "shorter", "gone"])
def test_a_damaged_file_is_named_and_only_its_unit_is_made_again(whole: Path, tmp_path: Path, how: str) -> None:
    artifacts = tmp_path / "artifacts"
    shutil.copytree(whole, artifacts)
    verify(artifacts)
    folder = plan(config(artifacts), TOYS)["prepare"].folder
    part = folder / "rows" / "sample_problems" / "u2.parquet"
    content = part.read_bytes()
    if how == "gone":
        part.unlink()
    else:
        part.write_bytes(content[:-1] if how == "shorter" else content[:100] + bytes([content[100] ^ 4]) + content[101:])
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "units").glob("*.json")}
    with pytest.raises(StoreError, match=rf"^prepare u2: {part} .*; `saebias prepare` makes the damaged units again and keeps the others$"):
        verify(artifacts)
    run_stages(config(artifacts), TOYS, BOTH, SilentReporter())
    assert part.read_bytes() == content
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "units").glob("*.json")}
    assert {name for name in after if after[name] != before[name]} == {"u2.json"}
    verify(artifacts)


@pytest.mark.parametrize("same", [True, False])
def test_what_stands_on_a_repaired_unit_is_up_to_date_if_and_only_if_its_bytes_are_what_they_were(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    artifacts = tmp_path / "artifacts"
    shutil.copytree(whole, artifacts)
    part = plan(config(artifacts), TOYS)["prepare"].folder / "rows" / "sample_problems" / "u2.parquet"
    content = part.read_bytes()
    part.write_bytes(content[:100] + bytes([content[100] ^ 4]) + content[101:])
    with pytest.raises(StoreError, match=r"^prepare u2: "):
        verify(artifacts)
    if not same:
        monkeypatch.setenv("TOY_OTHER", "u2")
    ran = run_stages(config(artifacts), TOYS, BOTH, SilentReporter())
    assert [item.stage.name for item in ran] == (["prepare"] if same else BOTH)
    assert (part.read_bytes() == content) == same


@pytest.mark.parametrize("how", ["torn", "gone"])
def test_a_finished_run_without_a_unit_s_manifest_is_damaged_each_time_it_is_asked(whole: Path, tmp_path: Path, how: str) -> None:
    artifacts = tmp_path / "artifacts"
    shutil.copytree(whole, artifacts)
    manifest = plan(config(artifacts), TOYS)["prepare"].folder / "units" / "u2.json"
    manifest.write_text(manifest.read_text()[:-5])
    if how == "gone":
        manifest.unlink()
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"^prepare u2: {manifest} is torn or gone; `saebias prepare` makes"):
            verify(artifacts)
    run_stages(config(artifacts), TOYS, BOTH, SilentReporter())
    verify(artifacts)


def test_of_a_run_that_was_broken_off_what_is_done_is_read_back_and_a_torn_manifest_named(whole: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    shutil.copytree(whole, artifacts)
    folder = plan(config(artifacts), TOYS)["prepare"].folder
    record = folder / "run.json"
    record.write_text(record.read_text().replace('"status": "done"', '"status": "failed"'))
    (folder / "units" / "u1.json").unlink()
    verify(artifacts)
    torn = folder / "units" / "u2.json"
    torn.write_text("{")
    with pytest.raises(StoreError, match=rf"^prepare u2: {torn} is torn or gone; "):
        verify(artifacts)
    verify(artifacts)
    run_stages(config(artifacts), TOYS, BOTH, SilentReporter())
    verify(artifacts)


def test_a_run_that_is_not_there_or_at_work_is_not_verified(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingParent, match="prepare, extract: was never run with this configuration"):
        verify(tmp_path)
    folder = plan(config(whole), TOYS)["prepare"].folder
    with shared(folder / "lock", "a worker"), pytest.raises(StoreError, match="already running"):
        verify(whole)
