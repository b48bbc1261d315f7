"""A training that was stopped and taken up again is the training that was never stopped."""

import dataclasses

import pytest
import torch
from safetensors.torch import load, save

from saebias.errors import InputError
from saebias.sae.module import ARCHITECTURES, SaeSpec
from saebias.sae.trainer import SaeTrainer, TrainConfig

from .conftest import Planted

SPEC = SaeSpec(d_model=32, n_latents=128, k=6, seed=3)
CONFIG = TrainConfig(batch_size=256, dead_after_tokens=1024)
STEPS, STOP = 30, 13


def batches(planted: Planted) -> list[torch.Tensor]:
    return list(torch.from_numpy(planted.x_ND[: 256 * STEPS]).split(256))


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_restored_training_goes_on_to_the_same_bits(planted, architecture, kernels):
    spec, config = dataclasses.replace(SPEC, architecture=architecture), dataclasses.replace(CONFIG, kernels=kernels)
    rows = batches(planted)
    unbroken = SaeTrainer(spec, config, torch.cat(rows), STEPS)
    for batch in rows[:STOP]:
        unbroken.step(batch)
    stored = save(unbroken.state())
    kept = unbroken.state()
    results = [unbroken.step(batch) for batch in rows[STOP:]]
    # Other first rows: nothing of them may be left.
    resumed = SaeTrainer(spec, config, rows[-1] * 2 + 1, STEPS)
    resumed.restore(load(stored))
    assert all(torch.equal(tensor, resumed.state()[name]) for name, tensor in kept.items())
    assert resumed.learning_rate() == pytest.approx(resumed.peak_learning_rate)
    assert [resumed.step(batch) for batch in rows[STOP:]] == results
    for name, tensor in unbroken.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name
    for name, tensor in unbroken.finished().state_dict().items():
        assert torch.equal(tensor, resumed.finished().state_dict()[name]), name


def test_a_state_shares_no_memory_with_the_training(planted):
    trainer = SaeTrainer(SPEC, CONFIG, torch.cat(batches(planted)), STEPS)
    state = trainer.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    trainer.step(batches(planted)[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())
    trainer.restore(state)
    trainer.step(batches(planted)[1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())


def test_the_state_of_another_dictionary_is_refused_by_name(planted):
    rows = torch.cat(batches(planted))
    wide = SaeTrainer(dataclasses.replace(SPEC, n_latents=64), CONFIG, rows, STEPS)
    gated = SaeTrainer(dataclasses.replace(SPEC, architecture="gated"), CONFIG, rows, STEPS)
    trainer = SaeTrainer(SPEC, CONFIG, rows, STEPS)
    with pytest.raises(InputError, match=r"first.W_dec_FD is \(64, 32\), expected \(128, 32\)"):
        trainer.restore(wide.state())
    with pytest.raises(InputError, match=r"first.b_mag_F is \(128,\), expected None"):
        trainer.restore(gated.state())
    with pytest.raises(InputError, match="calibration_ND is None"):
        trainer.restore({name: tensor for name, tensor in trainer.state().items() if name != "calibration_ND"})
