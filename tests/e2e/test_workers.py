"""Activations that several workers wrote, one of them killed, are the bytes that one process writes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from saebias.pipeline.claims import Crew
from saebias.pipeline.monitor import live_states
from tests.conftest import saebias

pytestmark = pytest.mark.slow

SMALL = ["-c", "quick"]
SMALL += [part for override in ("data.n=280", "extract.layers=2", "extract.shard_rows=1024", "runtime.threads=1") for part in ("--set", override)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    saebias("prepare", *SMALL, "-q", folder=folder)
    return folder


@pytest.fixture(scope="module")
def one(prepared: Path) -> dict[str, bytes]:
    folder = copy_of(prepared, prepared.parent / "one")
    saebias("extract", *SMALL, "-q", folder=folder)
    return store(folder)


def copy_of(prepared: Path, folder: Path) -> Path:
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    return folder


def store(folder: Path) -> dict[str, bytes]:
    run = next((folder / "artifacts" / "extract").iterdir())
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    return {str(path.relative_to(run)): path.read_bytes() for kind in ("files", "rows") for path in sorted((run / kind).rglob("*")) if path.is_file()}


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "saebias", "extract", *SMALL, *arguments], cwd=folder, stderr=subprocess.PIPE)


def kill_a_worker(folder: Path, process: subprocess.Popen[bytes], number: int) -> None:
    """kill -9 worker `number` once a few shards are there, while it is at one."""
    deadline = time.monotonic() + 500
    while time.monotonic() < deadline:
        workers = [state["process"]["pid"] for state in live_states(folder / "artifacts") if state["worker"] == number]
        runs = list((folder / "artifacts" / "extract").iterdir()) if workers else []
        if runs and len(list((runs[0] / "units").glob("*.json"))) >= 3 and Crew(runs[0], -1, 2).units_of(number):
            os.kill(workers[0], signal.SIGKILL)
            return
        assert process.poll() is None, process.communicate()[1].decode()[-2000:]
        time.sleep(0.02)
    raise AssertionError("no worker came to work")


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_that_an_engine_started_leave_the_same_store_although_one_was_killed(
    prepared: Path, one: dict[str, bytes], tmp_path: Path, engine: str
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    folder = copy_of(prepared, tmp_path)
    process = start(folder, "--set", "runtime.workers=2", "--set", f"runtime.engine={engine}")
    kill_a_worker(folder, process, 1)
    said = process.communicate(timeout=900)[1].decode()
    assert process.returncode == 0, said[-2000:]
    assert said.count("worker 1 was lost at ") == 1, said
    assert store(folder) == one


def test_workers_started_one_by_one_leave_the_same_store_although_one_was_killed(prepared: Path, one: dict[str, bytes], tmp_path: Path) -> None:
    folder = copy_of(prepared, tmp_path)
    first, second = start(folder, "--worker", "0/2"), start(folder, "--worker", "1/2")
    kill_a_worker(folder, second, 1)
    assert second.wait(60) == -signal.SIGKILL
    said = first.communicate(timeout=900)[1].decode()
    assert first.returncode == 0, said[-2000:]
    assert store(folder) == one


def test_training_shared_by_workers_gives_the_dictionaries_of_one_process(prepared: Path, one: dict[str, bytes], tmp_path: Path) -> None:
    alone, shared = copy_of(prepared, tmp_path / "alone"), tmp_path / "shared"
    short = [*SMALL, "--set", "train.max_rows=3000"]
    saebias("extract", *short, "-q", folder=alone)
    shutil.copytree(alone, shared)
    saebias("train", *short, "-q", folder=alone)
    saebias("train", *short, "-q", "--set", "runtime.workers=2", folder=shared)
    # The header of the file says its fields in no fixed order.
    weights = [{f"{path.parent.name}/{name}": tensor for path in f.rglob("*.safetensors") for name, tensor in load_file(path).items()} for f in (alone, shared)]
    assert weights[0] and set(weights[0]) == set(weights[1])
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_captions_and_metrics_that_workers_shared_are_the_bytes_of_one_process(prepared: Path, tmp_path: Path) -> None:
    alone, shared = copy_of(prepared, tmp_path / "alone"), copy_of(prepared, tmp_path / "shared")
    saebias("analyze", "--only", "behavior", *SMALL, "-q", folder=alone)
    saebias("analyze", "--only", "behavior", *SMALL, "-q", "--set", "runtime.workers=2", folder=shared)
    rows = [{path.name: path.read_bytes() for path in folder.rglob("analyze/behavior/*/rows/*/*.parquet")} for folder in (alone, shared)]
    assert len(rows[0]) > 1 and rows[0] == rows[1]
