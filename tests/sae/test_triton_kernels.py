"""The Triton kernels give what the plain ones give, under Triton's interpreter; skipped where Triton is not installed."""

import importlib
import os
from types import ModuleType

import pytest
import torch

from saebias.sae.kernels.contract import SparseCodes, Weights
from saebias.sae.kernels.plain import PlainKernels

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


def test_decode_and_dots_are_the_plain_ones(kernels: ModuleType) -> None:
    x_BD, codes, weights = codes_and_weights()
    ours, plain = kernels.TritonKernels().rebuild(x_BD, codes, weights), PlainKernels().rebuild(x_BD, codes, weights)
    torch.testing.assert_close(ours.error_BD, plain.error_BD, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.error_dots_BK, plain.error_dots_BK, rtol=1e-4, atol=1e-3)
    assert ours.squared_error == pytest.approx(plain.squared_error, rel=1e-5)


def test_gradients_are_the_plain_ones_and_zero_for_latents_that_were_not_active(kernels: ModuleType) -> None:
    x_BD, codes, weights = codes_and_weights()
    rebuilt = PlainKernels().rebuild(x_BD, codes, weights)
    arguments = (x_BD - weights.b_dec_D, codes, rebuilt.errors_PBD, rebuilt.error_dots_BK * 2 / x_BD.numel(), weights)
    ours, plain = kernels.TritonKernels().gradients(*arguments), PlainKernels().gradients(*arguments)
    for one, other in zip(ours.tensors(), plain.tensors(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    unused_F = torch.ones(F, dtype=torch.bool).index_fill(0, codes.indices_BK.flatten(), False)
    assert unused_F.any() and not ours.W_enc_FD[unused_F].any()
