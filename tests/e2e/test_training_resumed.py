"""A training killed with kill -9 in the middle goes on at its last checkpoint and ends with the very weights of an unbroken one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from saebias.sae.formats import load_sae
from tests.conftest import Ask, saebias

pytestmark = pytest.mark.slow

SMALL = ("-c", "quick", "--set", "data.n=120", "--set", "extract.layers=2", "--set", "train.max_rows=3000", "--set", "train.epochs=30")
SMALL += ("--set", "train.buffer_rows=1000", "--set", "train.checkpoint_every=20")


def kill_after_a_checkpoint(folder: Path, older_than: float) -> None:
    """Start `train` and kill -9 it once every dictionary of a pass has a checkpoint written after `older_than`."""
    process = subprocess.Popen([sys.executable, "-m", "saebias", "train", *SMALL, "-q"], cwd=folder, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    try:
        while not [path for path in folder.glob("artifacts/train/*/checkpoints/L*.safetensors") if path.stat().st_mtime > older_than]:
            assert process.poll() is None, f"ended before a checkpoint: {process.communicate()[1].decode()[-2000:]}"
            assert time.monotonic() < deadline, "no checkpoint in five minutes"
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.parent.name: load_sae(path)[0].state_dict() for path in folder.glob("artifacts/train/*/files/*/sae.safetensors")}


def test_killed_twice_in_the_middle_a_training_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path, ask: Ask) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    saebias("prepare", *SMALL, "-q", folder=whole)
    saebias("extract", *SMALL, "-q", folder=whole)
    shutil.copytree(whole, broken)
    saebias("train", *SMALL, "-q", folder=whole)
    started = time.time()
    kill_after_a_checkpoint(broken, started)
    kill_after_a_checkpoint(broken, time.time())
    done = saebias("train", *SMALL, folder=broken)
    assert "go on from step" in done.stderr
    expected, found = weights(whole), weights(broken)
    assert expected.keys() == found.keys() and len(found) == 5
    for name, tensors in expected.items():
        assert all(torch.equal(tensor, found[name][key]) for key, tensor in tensors.items()), name
    sql = "select sae_id, step, loss, fvu, l0, dead_share, gradient_norm from sae_history order by all"
    assert ask(whole / "artifacts", sql) == ask(broken / "artifacts", sql)
    assert not list(broken.glob("artifacts/train/*/checkpoints/*"))
