"""Laws of the loop: the best state is kept, patience ends a training, a state taken up goes on to the same bits, curves reach the sinks."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import pytest
import torch

from saebias.errors import InputError
from saebias.sae.module import SaeSpec
from saebias.sae.quality import sae_quality
from saebias.sae.sinks import open_sink
from saebias.sae.trainer import TrainConfig
from saebias.sae.training import Training
from saebias.sae.training_records import HistoryRow, LoopConfig, TrainedSae

from .conftest import Planted

SPEC = SaeSpec(d_model=32, n_latents=96, k=6, seed=3)
CONFIG = TrainConfig(batch_size=128, history_rows=10)
VALIDATION = slice(22_000, 24_000)


def batch(planted: Planted, step: int) -> torch.Tensor:
    return torch.from_numpy(planted.x_ND[(step * 128) % 20_000 :][:128])


def training_of(planted: Planted, *, steps: int = 60, config: TrainConfig = CONFIG, loop: LoopConfig = LoopConfig(), sink=None) -> Training:  # noqa: B008
    first_ND, validation_ND = torch.from_numpy(planted.x_ND[:4096]), torch.from_numpy(planted.x_ND[VALIDATION])
    return Training(SPEC, config, first_ND, steps, validation_ND=validation_ND, loop=loop, sink=sink)


def run(training: Training, planted: Planted) -> TrainedSae:
    while not training.done:
        training.step(batch(planted, training.step_count))
    return training.finished()


def spoil(training: Training) -> None:
    """Make the present weights bad, as a diverging step would."""
    training._trainer.weights.W_dec_FD.mul_(-1.0)


def test_the_weights_of_the_best_look_are_kept_when_the_training_gets_worse_after_it(planted):
    training = training_of(planted, loop=LoopConfig(validate_every=20))
    for step in range(59):
        training.step(batch(planted, step))
        if training.step_count == 40:
            best = training._trainer.finished().state_dict()
            best = {name: tensor.clone() for name, tensor in best.items()}
    spoil(training)
    training.step(batch(planted, 59))
    trained = training.finished()
    assert trained.summary.kept_step == 40 and trained.summary.steps == 60
    assert all(torch.equal(tensor, best[name]) for name, tensor in trained.sae.state_dict().items())
    assert trained.summary.validation_fvu == sae_quality(trained.sae, torch.from_numpy(planted.x_ND[VALIDATION])).fvu


def test_an_undisturbed_training_keeps_its_last_state_and_looking_changes_nothing(planted):
    plain, watched = run(training_of(planted), planted), run(training_of(planted, loop=LoopConfig(validate_every=7, patience=50)), planted)
    assert plain.summary.kept_step == watched.summary.kept_step == 60
    assert all(torch.equal(tensor, watched.sae.state_dict()[name]) for name, tensor in plain.sae.state_dict().items())


def test_patience_stops_a_training_that_no_longer_gets_better_and_its_best_state_is_kept(planted):
    training = training_of(planted, steps=400, loop=LoopConfig(validate_every=10, patience=2))
    while not training.done:
        training.step(batch(planted, training.step_count))
        if training.step_count >= 50:
            spoil(training)
    trained = training.finished()
    assert trained.summary.steps < 400
    assert trained.summary.kept_step <= 50
    assert trained.history[-1].step == trained.summary.steps


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("broken_at", [1, 23, 41])
def test_a_state_taken_up_in_a_fresh_training_ends_with_the_same_bits_and_the_same_curve(planted, architecture, broken_at):
    loop, spec = LoopConfig(validate_every=20, patience=9), dataclasses.replace(SPEC, architecture=architecture)
    first_ND, validation_ND = torch.from_numpy(planted.x_ND[:4096]), torch.from_numpy(planted.x_ND[VALIDATION])
    whole, broken, resumed = (Training(spec, CONFIG, first_ND, 60, validation_ND=validation_ND, loop=loop) for _ in range(3))
    for step in range(broken_at):
        broken.step(batch(planted, step))
    resumed.restore(*broken.state())
    expected, found = run(whole, planted), run(resumed, planted)
    assert all(torch.equal(tensor, found.sae.state_dict()[name]) for name, tensor in expected.sae.state_dict().items())

    def curve(trained: TrainedSae) -> list[HistoryRow]:
        return [dataclasses.replace(row, tokens_per_second=0.0) for row in trained.history]

    assert curve(expected) == curve(found)
    assert expected.summary.tokens == found.summary.tokens


def test_a_training_that_diverges_is_not_hidden_by_an_earlier_good_state(planted):
    training = training_of(planted, loop=LoopConfig(validate_every=20))
    for step in range(60):
        training.step(batch(planted, step))
    training._trainer.weights.b_dec_D.fill_(float("nan"))
    trained = training.finished()
    assert trained.summary.kept_step == 60
    assert math.isnan(trained.summary.validation_fvu)


def test_curves_reach_tensorboard(planted, tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = run(training_of(planted, sink=open_sink("tensorboard", tmp_path, "L03", {"k": 6})), planted)
    events = EventAccumulator(str(tmp_path / "L03"))
    events.Reload()
    assert [event.step for event in events.Scalars("fvu")] == [row.step for row in trained.history]
    assert [event.value for event in events.Scalars("l0")] == pytest.approx([row.l0 for row in trained.history])


@pytest.mark.slow
def test_curves_reach_an_offline_wandb_run(planted, tmp_path: Path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    sinks = [open_sink("wandb", tmp_path, name, {"k": 6}) for name in ("L03", "L04")]
    for sink in sinks:
        run(training_of(planted, sink=sink), planted)
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2


def test_an_unknown_sink_and_a_missing_package_are_one_line(tmp_path: Path, monkeypatch):
    assert open_sink("none", tmp_path, "L03", {}) is None
    with pytest.raises(InputError, match="choose one of none, tensorboard, wandb"):
        open_sink("mlflow", tmp_path, "L03", {})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"train.track=wandb needs the package wandb; install saebias\[tracking\]") as caught:
        open_sink("wandb", tmp_path, "L03", {})
    assert "\n" not in str(caught.value)
