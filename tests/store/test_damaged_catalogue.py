"""The catalogue is built again from the parts whatever became of it, and where it cannot be kept it still answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from saebias.config.load import load_config
from saebias.pipeline.runner import run_stages
from saebias.report import SilentReporter
from saebias.store.catalogue import catalogue_path, fold, fold_in_memory
from saebias.store.query import run_query
from tests.pipeline.test_runner import RESULT, Listening, answer
from tests.pipeline.toy import TOYS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def measured() -> Iterator[Path]:
    # Beside pytest's own folders, which other users may not enter.
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Path(folder) / "artifacts"
        run_stages(load_config(None, [f"runtime.artifacts={artifacts}"]), TOYS, ["prepare", "extract"], SilentReporter())
        yield artifacts


def spoil(path: Path) -> None:
    """Flip a byte in every block behind the headers."""
    content = bytearray(path.read_bytes())
    for place in range(3 * 4096 + 500, len(content), 4096):
        content[place] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["blocks", "header", "empty", "text"])
def test_a_damaged_catalogue_is_built_again_and_that_is_said(measured: Path, how: str) -> None:
    before = answer(measured)
    path = catalogue_path(measured)
    if how == "blocks":
        spoil(path)
    elif how == "header":
        path.write_bytes(b"\0" * 4096 + path.read_bytes()[4096:])
    else:
        path.write_bytes(b"" if how == "empty" else b"not a catalogue")
    listening = Listening()
    assert run_query(measured, RESULT, reporter=listening).to_pylist() == before
    assert how == "empty" or any("damaged" in line and "from the parts" in line for line in listening.said)
    assert answer(measured) == before


def test_folding_over_a_damaged_catalogue_builds_a_sound_one(measured: Path) -> None:
    before = answer(measured)
    spoil(catalogue_path(measured))
    fold(measured)
    assert answer(measured) == before


def test_a_catalogue_in_memory_has_the_rows_of_the_one_on_disk(measured: Path) -> None:
    with fold_in_memory(measured) as connection:
        rows = connection.sql(RESULT).to_arrow_table().to_pylist()
    assert rows == answer(measured)


def test_a_folder_that_cannot_be_written_is_answered_from_its_parts(measured: Path) -> None:
    before = answer(measured)
    catalogue_path(measured).unlink()
    (measured / ".fold.lock").unlink()
    folders = [measured.parent, *(path for path in measured.parent.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    code = (
        "import os, sys; from pathlib import Path; from saebias.store.query import run_query; from tests.pipeline.test_runner import Listening\n"
        # The superuser may write anywhere: ask as somebody else.
        "if os.geteuid() == 0:\n    os.setuid(65534)\n"
        "said = Listening(); print(run_query(Path(sys.argv[1]), sys.argv[2], reporter=said).to_pylist()); print(said.said)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(measured), RESULT], cwd=ROOT, capture_output=True, text=True, check=False)
    for folder in folders:
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[0] == str(before) and "no catalogue is kept" in done.stdout
    assert not catalogue_path(measured).exists()


def test_what_killed_processes_left_half_written_is_swept(measured: Path) -> None:
    folder = next((measured / "prepare").iterdir())
    litter = [
        measured / ".saebias.duckdb.123.abcdef",
        measured / ".current.json.123.tmp",
        folder / "rows" / "sample_problems" / ".u1.parquet.123.tmp",
        folder / "units" / ".u1.json.123.tmp",
        # What safetensors calls the file that it is writing.
        folder / "checkpoints" / ".tmpQ4yL53",
        folder / "files" / "a.zarr" / "c" / "0" / "0" / "0.0123456789abcdef.partial",
    ]
    for path in litter:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    shutil.rmtree(next((measured / "extract").iterdir()))
    (folder / "units" / "u0.json").unlink()
    run_stages(load_config(None, [f"runtime.artifacts={measured}"]), TOYS, ["prepare", "extract"], SilentReporter())
    assert not [path for path in litter if path.exists()]
