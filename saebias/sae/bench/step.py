"""How fast a training step is: `python -m saebias.sae.bench [--shapes 256x2048x4096 ...]`.

Absolute times move with the load of the machine; the steady figure is step / GEMM: processor time of a whole training step (selection, gradients, AuxK,
clipping, Adam, dead latents) over that of one float32 encoder product of the same shape, taken alternately in one process.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

import torch

from saebias.sae.module import SaeSpec
from saebias.sae.trainer import SaeTrainer, TrainConfig

SHAPES = ("256x2048x4096", "576x4608x4096", "640x5120x4096", "640x10240x4096", "2560x20480x1024")
STEPS_BEFORE = 5


@dataclass(frozen=True)
class StepTiming:
    """Processor milliseconds of one encoder product and of one whole step, the rows a second that follow, and memory over what was used before."""

    shape: str
    kernels: str
    product_ms: float
    step_ms: float
    step_per_product: float
    tokens_per_cpu_second: float
    peak_mib: float


def time_step(d_model: int, n_latents: int, batch_size: int, *, k: int = 32, kernels: str = "auto", n_steps: int = 10) -> StepTiming:
    """The timing of one shape on rows with a spectrum like that of activations."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(max(1, d_model // 4), d_model, generator=generator)

    def rows() -> torch.Tensor:
        return torch.randn(batch_size, len(mixing), generator=generator) @ mixing * 0.3 + 0.3 * torch.randn(batch_size, d_model, generator=generator)

    batches = [rows() for _ in range(3)]
    product = torch.empty(batch_size, n_latents)
    # A small training first: the compiled code is not memory that this shape needs.
    SaeTrainer(SaeSpec(d_model, 4 * k, k), TrainConfig(kernels=kernels), batches[0], steps=1).step(batches[0])
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer = SaeTrainer(SaeSpec(d_model, n_latents, k), TrainConfig(batch_size=batch_size, kernels=kernels), batches[0], steps=1000)
    for i in range(STEPS_BEFORE):
        trainer.step(batches[i % 3])
    peak_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    torch.mm(batches[0], trainer.weights.W_enc_FD.T, out=product)
    product_seconds = step_seconds = 0.0
    for i in range(n_steps):
        start = time.process_time()
        torch.mm(batches[0], trainer.weights.W_enc_FD.T, out=product)
        between = time.process_time()
        trainer.step(batches[i % 3])
        product_seconds += between - start
        step_seconds += time.process_time() - between
    step_ms, product_ms = 1000 * step_seconds / n_steps, 1000 * product_seconds / n_steps
    tokens_per_second = batch_size * n_steps / step_seconds
    name = f"{d_model}x{n_latents} B{batch_size} k{k}"
    return StepTiming(name, trainer.kernels.name, product_ms, step_ms, step_ms / product_ms, tokens_per_second, peak_mib)
