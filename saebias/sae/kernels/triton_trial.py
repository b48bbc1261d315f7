"""Whether the Triton kernels compile here and give what the plain ones give: asked on a few rows before a training relies on them.

Shapes: B rows, D model width, F latents, K places for active latents of a row.
"""

from __future__ import annotations

import subprocess
from functools import cache

import torch

from saebias.sae.kernels.contract import Kernels, Weights
from saebias.sae.kernels.plain import PlainKernels

B, D, F, K = 16, 200, 48, 4
CLOSE = 1e-3
"""Largest difference allowed, as a share of the largest number: what float32 sums in another order may lose, with room."""


@cache
def fault(device_type: str) -> str | None:
    """Why the Triton kernels cannot be used on devices of this type, None when they can; tried once, however many dictionaries are trained."""
    try:
        from triton.errors import TritonError  # ty: ignore[import-not-found]

        from saebias.sae.kernels.triton_kernels import TritonKernels
    except ImportError as error:
        return f"triton cannot be imported ({_line(error)})"
    try:
        # Without a C compiler, with a driver too old or a card that Triton does not know, the first launch fails.
        return None if (worst := difference(TritonKernels(), device_type)) <= CLOSE else f"triton differs from plain torch by {worst:.1e} of the largest number"
    except (TritonError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
        return f"triton does not compile here ({_line(error)})"


def difference(kernels: Kernels, device_type: str) -> float:
    """The largest difference between what these kernels and the plain ones make of random codes with two nested prefixes, as a share of the largest number."""
    generator = torch.Generator().manual_seed(0)
    W_enc_FD, b_enc_F, W_dec_FD, b_dec_D, x_BD = (torch.randn(*shape, generator=generator).to(device_type) for shape in ((F, D), (F,), (F, D), (D,), (B, D)))
    weights = Weights(W_enc_FD, b_enc_F, W_dec_FD, b_dec_D)
    centred_BD, plain, prefixes = x_BD - weights.b_dec_D, PlainKernels(), (F // 3, F)
    codes = plain.encode(centred_BD, weights, K)
    results = []
    for one in (plain, kernels):
        rebuilt = one.rebuild(x_BD, codes, weights, prefixes)
        grads = one.gradients(centred_BD, codes, rebuilt.errors_PBD, rebuilt.error_dots_BK, weights, prefixes)
        dots_BK = one.dots(x_BD, codes.indices_BK, codes.values_BK > 0, weights)
        results.append([rebuilt.errors_PBD, rebuilt.error_dots_BK, dots_BK, *grads.tensors()])
    # Torch's maximum: a NaN anywhere is the answer, and no trial is passed with it.
    return torch.stack([(found - wanted).abs().max() / wanted.abs().max() for wanted, found in zip(*results, strict=True)]).max().item()


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
