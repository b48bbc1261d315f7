"""A dictionary whose latents are shared by two processes is the one that a single process trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from saebias.errors import InputError
from saebias.sae.module import SaeSpec
from saebias.sae.peers import ALONE, Peers
from saebias.sae.trainer import SaeTrainer, TrainConfig

from .sharded_child import CASES, STOP, kept, read, trained

ROOT = Path(__file__).parents[2]


def torchrun(n_processes: int, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes), "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, errors = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        # Asked to end it ends the processes that it started; killed it would leave them behind.
        process.terminate()
        process.communicate(timeout=60)
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    done = torchrun(2, "tests.sae.sharded_child", str(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_latents_shared_by_two_processes_learn_what_one_process_learns(shared, name):
    alone = trained(name, ALONE)
    if "more dead" in name:
        assert alone.dead_share() * alone.spec.n_latents > 4, "there must be more dead latents than places in AuxK"
    assert_same(read(shared, name, "whole"), kept(alone))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_training_goes_on_whichever_number_of_processes_takes_it_up(shared, name):
    whole = kept(trained(name, ALONE))
    assert_same(read(shared, name, "resumed"), whole)
    half = {key: tensor for key, tensor in read(shared, name, "half").items() if not key.startswith("sae.")}
    assert_same(kept(trained(name, ALONE, half, first=STOP)), whole)


def test_a_process_alone_is_told_what_it_says_and_wins_every_place():
    tensor = torch.arange(6.0).view(2, 3)
    assert ALONE.total(tensor) is tensor
    assert torch.equal(ALONE.collected(tensor), tensor)
    assert ALONE.collected(tensor) is not tensor
    assert ALONE.told("this") == "this"
    assert ALONE.winning(tensor, 3).all()
    assert ALONE.own(10) == slice(0, 10)


def test_what_cannot_be_shared_is_said(planted):
    rows_ND = torch.from_numpy(planted.x_ND[:256])
    with pytest.raises(InputError, match="96 latents cannot be shared evenly by 5 processes; choose another width"):
        SaeTrainer(SaeSpec(32, 96, 4), TrainConfig(), rows_ND, 1, Peers(0, 5))
    for architecture in ("jumprelu", "gated", "relu"):
        with pytest.raises(InputError, match=f"a {architecture} dictionary is trained by one process; choose topk, batchtopk or matryoshka"):
            SaeTrainer(SaeSpec(32, 96, 4, architecture), TrainConfig(), rows_ND, 1, Peers(1, 2))
