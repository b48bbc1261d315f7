"""The Triton kernels give what the plain ones give, under Triton's interpreter; skipped where Triton is not installed."""

import importlib
import os
from types import ModuleType

import pytest
import torch

from saebias.errors import InputError
from saebias.sae.kernels import triton_trial
from saebias.sae.kernels.choice import Choice, choose_kernels
from saebias.sae.kernels.contract import SparseCodes, Weights
from saebias.sae.kernels.plain import PlainKernels
from saebias.sae.module import ARCHITECTURES, SaeSpec
from saebias.sae.trainer import SaeTrainer, TrainConfig

pytestmark = pytest.mark.slow
B, D, F, K = 20, 150, 60, 5


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    if not torch.cuda.is_available():
        # Read when Triton itself is imported.
        os.environ["TRITON_INTERPRET"] = "1"
    pytest.importorskip("triton")
    return importlib.import_module("saebias.sae.kernels.triton_kernels")


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def codes_and_weights() -> tuple[torch.Tensor, SparseCodes, Weights]:
    weights = Weights(normal(1, F, D), normal(2, F), normal(3, F, D), normal(4, D))
    x_BD = normal(5, B, D)
    codes = PlainKernels().encode(x_BD - weights.b_dec_D, weights, K)
    codes.values_BK[3] = 0  # a row with no active latent; the other rows leave some latents unused
    return x_BD, codes, weights


PREFIXES = [(), (7, 30, F)]


@pytest.mark.parametrize("prefixes", PREFIXES)
def test_decode_and_dots_are_the_plain_ones(kernels: ModuleType, prefixes: tuple[int, ...]) -> None:
    x_BD, codes, weights = codes_and_weights()
    ours, plain = (one.rebuild(x_BD, codes, weights, prefixes) for one in (kernels.TritonKernels(), PlainKernels()))
    torch.testing.assert_close(ours.errors_PBD, plain.errors_PBD, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.error_dots_BK, plain.error_dots_BK, rtol=1e-4, atol=1e-3)
    assert ours.squared_error == pytest.approx(plain.squared_error, rel=1e-5)


def test_dots_at_wanted_places_are_the_plain_ones(kernels: ModuleType) -> None:
    x_BD, codes, weights = codes_and_weights()
    wanted_BK = normal(6, B, K) > 0
    ours, plain = (one.dots(x_BD, codes.indices_BK, wanted_BK, weights) for one in (kernels.TritonKernels(), PlainKernels()))
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-3)
    assert not ours[~wanted_BK].any()


@pytest.mark.parametrize("prefixes", PREFIXES)
def test_gradients_are_the_plain_ones_and_zero_for_latents_that_were_not_active(kernels: ModuleType, prefixes: tuple[int, ...]) -> None:
    x_BD, codes, weights = codes_and_weights()
    rebuilt = PlainKernels().rebuild(x_BD, codes, weights, prefixes)
    arguments = (x_BD - weights.b_dec_D, codes, rebuilt.errors_PBD, rebuilt.error_dots_BK * 2 / x_BD.numel(), weights, prefixes)
    ours, plain = kernels.TritonKernels().gradients(*arguments), PlainKernels().gradients(*arguments)
    for one, other in zip(ours.tensors(), plain.tensors(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    is_used_BK = codes.values_BK > 0
    unused_F = torch.ones(F, dtype=torch.bool).index_fill(0, codes.indices_BK[is_used_BK], False)
    assert unused_F.any() and not ours.W_enc_FD[unused_F].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_training_with_triton_kernels_comes_to_the_dictionary_of_plain_torch(kernels: ModuleType, architecture: str) -> None:
    rows = list(torch.relu(normal(8, 3 * 16, 24)).split(16))
    finished = {}
    for name in ("triton", "torch"):
        if name == "triton" and torch.cuda.is_available():
            config = TrainConfig(kernels=name, device="cuda", dead_after_tokens=16)
        else:
            config = TrainConfig(kernels=name, dead_after_tokens=16)
        trainer = SaeTrainer(SaeSpec(24, 48, 4, architecture), config, torch.cat(rows), len(rows))
        for batch_BD in rows:
            trainer.step(batch_BD)
        assert trainer.kernels.name == name
        finished[name] = trainer.finished().state_dict()
    for name, wanted in finished["torch"].items():
        torch.testing.assert_close(finished["triton"][name], wanted, rtol=1e-3, atol=1e-4, msg=name)


def test_kernels_that_give_something_else_are_found_out_and_left(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert triton_trial.fault(device) is None
    right = kernels.weighted_rows
    monkeypatch.setattr(kernels, "weighted_rows", lambda *arguments: right(*arguments) * 1.01)
    why_not = triton_trial.fault(device)
    assert why_not is not None and "differs from plain torch" in why_not
    with pytest.raises(InputError, match="the Triton kernels cannot be used here: triton differs"):
        choose_kernels("triton", device)


def test_kernels_that_do_not_compile_are_left_with_the_reason(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> torch.Tensor:
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

    monkeypatch.setattr(kernels, "weighted_rows", fails)
    # What `auto` does on a CUDA device, asked for here where the interpreter stands in for one.
    monkeypatch.setattr("saebias.sae.kernels.choice.kernel_choice", lambda name, device_type: Choice("triton"))
    found, choice = choose_kernels("auto", "cuda" if torch.cuda.is_available() else "cpu")
    assert found.name == "torch"
    assert choice.why_not == "triton does not compile here (Failed to find C compiler. Please specify via CC environment variable.)"
