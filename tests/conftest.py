"""One small run of everything, shared by the tests that look at its numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saebias.store.query import run_query

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is there, and for all children: several processes with a thread a core each wait for one another at every matrix product, and took six
    # times as long.
    for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(_threads, "1")

Ask = Callable[[Path, str], list[dict[str, Any]]]


def saebias(*arguments: str, folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a folder of its own."""
    done = subprocess.run([sys.executable, "-m", "saebias", *arguments], cwd=folder, capture_output=True, text=True, timeout=1500, check=False)
    assert not check or done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stderr[-3000:]}"
    return done


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` the tests of one run, and else those of one file, go to the same process: what takes minutes to make is made once."""
    for item in items:
        assert isinstance(item, pytest.Function)
        shared = next((name for name in ("skewed_run", "null_run") if name in item.fixturenames), item.nodeid.partition("::")[0])
        item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture(scope="session")
def skewed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of a quick run on the captioner with the planted skew."""
    folder = tmp_path_factory.mktemp("skewed")
    saebias("run-all", "-c", "quick", folder=folder)
    return folder / "artifacts"


@pytest.fixture(scope="session")
def null_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the model does, on its sibling without a skew."""
    folder = tmp_path_factory.mktemp("null")
    overrides = ["--set", "model.name=saebias:null", "--set", 'data.captioner="null"']
    saebias("prepare", "-c", "quick", *overrides, folder=folder)
    saebias("analyze", "-c", "quick", "--only", "behavior", *overrides, folder=folder)
    return folder / "artifacts"


@pytest.fixture(scope="session")
def ask() -> Ask:
    """Rows of a query."""
    return lambda artifacts, sql: run_query(artifacts, sql).to_pylist()
