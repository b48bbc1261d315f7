"""The stage as a whole, from the command line: estimates, full disks, other models, hand-over to the writer."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from saebias.stages.extract import WriterThread
from saebias.stages.extract_plan import _extremes
from saebias.store.query import run_query
from tests.conftest import saebias

SMALL = [part for override in ("data.n=60", "extract.layers=2", "extract.shard_rows=1024", "runtime.threads=1") for part in ("--set", override)]


def test_what_was_handed_over_is_written_even_when_the_work_after_it_fails() -> None:
    written: list[int] = []
    with pytest.raises(ZeroDivisionError), WriterThread() as writer:
        writer.put(lambda: written.append(1))
        writer.put(lambda: written.append(2))
        raise ZeroDivisionError
    assert written == [1, 2]


def test_what_the_writer_raises_reaches_the_work() -> None:
    def fail() -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"), WriterThread() as writer:
        writer.put(fail)
    with pytest.raises(OSError, match="disk"), WriterThread() as writer:
        writer.put(fail)
        writer.put(lambda: None)


def test_the_extreme_sizes_are_the_smallest_largest_widest_and_tallest() -> None:
    assert set(_extremes([(4, 4), (9, 9), (8, 2), (2, 8), (5, 5)])) == {(4, 4), (9, 9), (8, 2), (2, 8)}


def activations(artifacts: Path) -> dict[str, bytes]:
    """The shard files of the one extract run."""
    return {str(path.relative_to(artifacts)): path.read_bytes() for path in sorted(artifacts.rglob("activations.zarr/c/*/0/0"))}


def runs(artifacts: Path) -> list[Path]:
    return sorted((artifacts / "extract").glob("*"))


@pytest.mark.slow
def test_the_estimate_from_timed_batches_is_near_what_the_run_takes(tmp_path: Path) -> None:
    before = saebias("extract", *SMALL, "--dry-run", folder=tmp_path)
    assert "run `saebias prepare` first" in before.stderr
    saebias("prepare", *SMALL, folder=tmp_path)
    told = saebias("extract", *SMALL, "--dry-run", folder=tmp_path).stdout
    assert "one timed batch of" in told and "L00.resid_post" in told and "L07.resid_post" in told
    assert not list((tmp_path / "artifacts" / "extract").glob("*/units/*")), "an estimate leaves nothing behind"
    saebias("extract", *SMALL, folder=tmp_path)
    artifacts = tmp_path / "artifacts"
    (rows,) = run_query(artifacts, "select count(*) n from token_rows").to_pylist()
    # Each row of each table counts once, an activation row by its row of the index.
    tables = ("token_rows", "extract_status", "extract_prompts", "extract_model", "pooled_rows")
    counted = sum(run_query(artifacts, f"select count(*) n from {table}")["n"][0].as_py() for table in tables)
    assert json.loads((runs(artifacts)[0] / "run.json").read_text())["n_rows"] == counted
    found = re.search(r"([\d,]+) rows in \d+ shards: ([\d,]+) MiB on disk", told)
    assert found is not None
    said, mebibytes = (int(text.replace(",", "")) for text in found.groups())
    assert abs(said - rows["n"]) <= 0.15 * rows["n"]
    size = sum(len(content) for content in activations(artifacts).values())
    assert abs(mebibytes * 2**20 - size) <= 0.3 * size + 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 20 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("a disk can only be made by a user who may mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_what_was_written_stays_and_counts(small_disk: Path) -> None:
    options = [*SMALL, "--set", "extract.layers=8", "--set", "data.n=200", "--set", "extract.dtype=float32"]
    saebias("prepare", *options, folder=small_disk)
    broken = saebias("extract", *options, folder=small_disk, check=False)
    assert broken.returncode == 2 and "the disk is full; finished units are intact" in broken.stderr
    assert broken.stderr.count("Traceback") == 0
    (run,) = runs(small_disk / "artifacts")
    finished = {path.name: path.stat().st_mtime_ns for path in (run / "units").glob("*.json")}
    kept = activations(small_disk / "artifacts")
    assert finished
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    resumed = saebias("extract", *options, folder=small_disk)
    assert f"{len(finished)} of " in resumed.stderr
    after = {path.name: path.stat().st_mtime_ns for path in (run / "units").glob("*.json")}
    assert len(after) > len(finished) and all(after[name] == when for name, when in finished.items())
    whole = activations(small_disk / "artifacts")
    for name in finished:
        shard = int(name.removeprefix("shard-").removesuffix(".json"))
        file = next(path for path in whole if f"/c/{shard}/0/0" in path)
        assert whole[file] == kept[file]


@pytest.mark.slow
def test_a_changed_model_under_the_same_name_is_refused_and_nothing_is_rewritten(tmp_path: Path) -> None:
    saebias("prepare", *SMALL, folder=tmp_path)
    saebias("extract", *SMALL, folder=tmp_path)
    (run,) = runs(tmp_path / "artifacts")
    (run / "units" / "shard-00000.json").unlink()
    # As if a hub model had moved on under its name since the first shards were written.
    meta = run / "files" / "activations.zarr" / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["model"]["digest"] = "0" * 64
    meta.write_text(json.dumps(content))
    for path in (run / "units").glob("*.json"):
        manifest = json.loads(path.read_text())
        manifest["files"]["files/activations.zarr/zarr.json"] |= {"size": meta.stat().st_size, "sha256": hashlib.sha256(meta.read_bytes()).hexdigest()}
        path.write_text(json.dumps(manifest))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "running"}))
    before = activations(tmp_path / "artifacts")
    refused = saebias("extract", *SMALL, folder=tmp_path, check=False)
    assert refused.returncode == 2 and "holds activations of another model or revision" in refused.stderr and "0000" in refused.stderr
    assert activations(tmp_path / "artifacts") == before


@pytest.mark.slow
def test_a_damaged_description_of_the_array_is_written_again_as_it_was_and_costs_no_shard(tmp_path: Path) -> None:
    saebias("prepare", *SMALL, folder=tmp_path)
    saebias("extract", *SMALL, folder=tmp_path)
    (run,) = runs(tmp_path / "artifacts")
    meta = run / "files" / "activations.zarr" / "zarr.json"
    whole = meta.read_bytes()
    shards = [path for path in (meta.parent / "c").rglob("*") if path.is_file()]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in [*run.glob("units/*.json"), *run.glob("rows/*/*.parquet"), *shards]}
    assert len(shards) > 1
    # A wrong digit in the model's digest: a description like any other, of the same size.
    start = whole.index(b'"digest": "') + len(b'"digest": "')
    flipped = whole[:start] + (b"1" if whole[start : start + 1] == b"0" else b"0") + whole[start + 1 :]
    for content in (None, flipped):
        assert content != whole
        meta.unlink() if content is None else meta.write_bytes(content)
        if content is not None:
            damaged = saebias("extract", *SMALL, "--verify", folder=tmp_path, check=False)
            said = damaged.stderr.splitlines()[-1]
            assert damaged.returncode == 2 and said.startswith("saebias: extract files/activations.zarr/zarr.json: ") and "shard-" not in said
        saebias("extract", *SMALL, folder=tmp_path)
        assert meta.read_bytes() == whole
        assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before


@pytest.mark.slow
def test_the_number_of_threads_pictures_and_tokens_per_pass_changes_no_row(tmp_path: Path) -> None:
    vectors, indexes = [], []
    for number, overrides in enumerate((["runtime.batch_size=64"], ["runtime.batch_size=5", "runtime.token_budget=200"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        options = [*SMALL, "--set", "extract.dtype=float32", *(part for override in overrides for part in ("--set", override))]
        saebias("prepare", *options, folder=folder)
        saebias("extract", *options, folder=folder)
        sql = "select shard, row, sample_id, language, prompt_id, position, token_id, token_kind, decision, last, reads_caption from token_rows order by row"
        indexes.append(run_query(folder / "artifacts", sql).to_pylist())
        from saebias.store.arrays import ActivationArray

        (run,) = runs(folder / "artifacts")
        array = ActivationArray(run / "files" / "activations.zarr")
        vectors.append(np.stack([array.read(hook) for hook in array.hooks]))
    assert indexes[0] == indexes[1]
    assert np.abs(vectors[0] - vectors[1]).max() <= 1e-4 * np.abs(vectors[0]).max()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["lens", "alignment"])
def test_without_decision_rows_a_tool_that_reads_them_is_left_out_in_one_line(part: str, tmp_path: Path) -> None:
    kinds = [text for kind in ("caption", "decision") for text in ("--set", f"extract.tokens.{kind}=false")]
    saebias("prepare", *SMALL, folder=tmp_path)
    saebias("extract", *SMALL, *kinds, folder=tmp_path)
    done = saebias("mechanistic", "--only", part, *SMALL, *kinds, folder=tmp_path)
    assert "is left out" in done.stderr and "decision" in done.stderr and "Traceback" not in done.stderr
