"""Training away from the CPU: which kernels are taken and why, and that no tensor stays behind on another device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from saebias.errors import InputError
from saebias.sae import trainer as trainer_module
from saebias.sae.devices import training_device
from saebias.sae.kernels.choice import Choice, choose_kernels, kernel_choice
from saebias.sae.kernels.contract import Weights
from saebias.sae.kernels.plain import PlainKernels
from saebias.sae.kernels.triton_trial import CLOSE, difference
from saebias.sae.module import ARCHITECTURES, SaeSpec
from saebias.sae.trainer import SaeTrainer, TrainConfig

from .conftest import Planted

AWAY = torch.device("meta")
"""Stands for a device with memory of its own: tensors there compute on the CPU, and refuse to meet tensors of the CPU."""


class AwayTensor(torch.Tensor):
    """A tensor that says it is on `AWAY`, with its numbers in `inner`."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> AwayTensor:
        tensor = torch.Tensor._make_wrapper_subclass(cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=AWAY)
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return computed(function, arguments, named or {})


MOVES = ("aten::_to_copy", "aten::copy_")


def computed(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What the function makes of the inner tensors; raises RuntimeError, as a GPU does, where tensors of two devices meet."""
    tensors = [value for value in tree_flatten((arguments, named))[0] if isinstance(value, torch.Tensor)]
    is_away = any(isinstance(tensor, AwayTensor) for tensor in tensors)
    name = function._schema.name
    if is_away and name not in MOVES and any(not isinstance(tensor, AwayTensor) and tensor.ndim > 0 for tensor in tensors):
        raise RuntimeError(f"{name}: tensors on two devices")
    wanted = named.get("device")
    goes_away = is_away if wanted is None else torch.device(wanted) == AWAY
    inside = {key: torch.device("cpu") if key == "device" and value is not None else value for key, value in named.items()}
    unwrap: Callable[[Any], Any] = lambda value: value.inner if isinstance(value, AwayTensor) else value  # noqa: E731
    result = function(*tree_map(unwrap, arguments), **tree_map(unwrap, inside))
    if name.endswith("_"):
        # In place: the first argument itself, or nothing for operators on lists.
        return arguments[0] if function._schema.returns else None
    if name == "aten::_to_copy" and not goes_away and is_away:
        return result
    return tree_map(lambda value: AwayTensor(value) if goes_away and isinstance(value, torch.Tensor) else value, result)


class _Operators(TorchDispatchMode):
    """Makes new tensors on `AWAY` where they are asked for."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return computed(function, arguments, named or {})


class _Literals(TorchFunctionMode):
    """Moves what `torch.tensor` makes by an operator of its own: it would do so out of sight."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = dict(named or {})
        device = named.pop("device", None) if function is torch.tensor else None
        made = function(*arguments, **named)
        return made if device is None else made.to(device)


@contextmanager
def away() -> Generator[None]:
    """A block in which `AWAY` is a device to compute on."""
    with _Operators(), _Literals():
        yield


def trained(spec: SaeSpec, config: TrainConfig, rows: list[torch.Tensor]) -> SaeTrainer:
    trainer = SaeTrainer(spec, config, torch.cat(rows), len(rows))
    for batch_BD in rows:
        trainer.step(batch_BD)
    return trainer


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_training_away_from_the_cpu_mixes_no_devices_and_comes_to_the_same_bits(planted: Planted, monkeypatch, architecture):
    monkeypatch.setattr(trainer_module, "training_device", torch.device)
    rows = list(torch.from_numpy(planted.x_ND[: 12 * 256]).split(256))
    spec = SaeSpec(d_model=32, n_latents=96, k=4, seed=3, architecture=architecture)
    config = TrainConfig(kernels="torch", dead_after_tokens=512)
    here = trained(spec, config, rows)
    with away():
        there = trained(spec, dataclasses.replace(config, device="meta"), rows)
        assert all(isinstance(tensor, AwayTensor) for tensor in (*there.weights.tensors(), there.last_active_F, there.scale.mean_D))
        state, finished = there.state(), there.finished().state_dict()
        resumed = SaeTrainer(spec, dataclasses.replace(config, device="meta"), rows[0], len(rows))
        resumed.restore(state)
        assert all(torch.equal(tensor, resumed.state()[name]) for name, tensor in state.items())
    for ours, wanted in ((state, here.state()), (finished, here.finished().state_dict())):
        assert ours.keys() == wanted.keys()
        assert all(type(tensor) is torch.Tensor and torch.equal(tensor, wanted[name]) for name, tensor in ours.items())


def test_a_tensor_that_stays_behind_is_noticed():
    with away(), pytest.raises(RuntimeError, match="two devices"):
        torch.zeros(3, device=AWAY) + torch.ones(3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "device cuda: there is no GPU to train on .*choose cpu"),
        ("cuda:1", "device cuda:1: there is no GPU to train on .*choose cpu"),
        ("mps", "device mps: there is no Apple GPU to train on .*choose cpu"),
        ("cpu:0", "device 'cpu:0'; choose cpu, cuda, cuda:N or mps"),
        ("cuda:x", "device 'cuda:x'; choose cpu, cuda, cuda:N or mps"),
        ("tpu", "device 'tpu'; choose cpu, cuda, cuda:N or mps"),
    ],
)
def test_a_device_that_is_not_there_is_said(name, message, monkeypatch, planted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        SaeTrainer(SaeSpec(32, 64, 4), TrainConfig(device=name), torch.from_numpy(planted.x_ND[:100]), 1)


def test_a_gpu_beyond_those_there_are_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="device cuda:2: this machine shows 2 GPUs"):
        training_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "device", "installed", "choice"),
    [
        ("auto", "cpu", {"numba", "triton"}, Choice("numba")),
        ("auto", "cpu", {"triton"}, Choice("torch", "numba is not installed (pip install numba)")),
        ("auto", "cuda", {"numba", "triton"}, Choice("triton")),
        ("auto", "cuda", {"numba"}, Choice("torch", "triton is not installed (pip install triton)")),
        ("auto", "mps", {"numba", "triton"}, Choice("torch", "nothing is compiled for mps")),
        ("torch", "cuda", {"triton"}, Choice("torch")),
        ("triton", "cuda", {"triton"}, Choice("triton")),
        ("numba", "cpu", {"numba"}, Choice("numba")),
    ],
)
def test_auto_takes_the_compiled_kernels_of_the_device_or_says_why_not(name, device, installed, choice, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert kernel_choice(name, device, has=installed.__contains__) == choice


@pytest.mark.parametrize(
    ("name", "device", "installed", "message"),
    [
        ("numba", "cuda", {"numba"}, "'numba' do not compute on cuda; choose auto"),
        ("triton", "cpu", {"triton"}, "'triton' do not compute on cpu; choose auto"),
        ("triton", "cuda", set(), "triton is not installed; install it or choose auto"),
        ("numba", "cpu", set(), "numba is not installed; install it or choose auto"),
    ],
)
def test_kernels_asked_for_by_name_are_never_replaced(name, device, installed, message, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match=message):
        kernel_choice(name, device, has=installed.__contains__)


def test_the_choice_on_this_cpu_is_said_with_the_kernels():
    kernels, choice = choose_kernels("torch", "cpu")
    assert (kernels.name, choice) == ("torch", Choice("torch"))


def test_kernels_that_give_nan_pass_no_trial() -> None:
    class Spoiled(PlainKernels):
        def dots(self, rows_BD: torch.Tensor, indices_BK: torch.Tensor, wanted_BK: torch.Tensor, weights: Weights) -> torch.Tensor:
            return super().dots(rows_BD, indices_BK, wanted_BK, weights) * torch.nan

    assert difference(PlainKernels(), "cpu") <= CLOSE
    assert not difference(Spoiled(), "cpu") <= CLOSE
