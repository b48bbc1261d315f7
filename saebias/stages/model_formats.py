"""What a number format costs on the processor that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saebias.vlm.loading import LoadedModel

# As Linux names them: AMD Zen 4 and Intel Cooper Lake and later; Intel Sapphire Rapids and later; ARM.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
LARGE = 100_000_000
"""Parameters from which a faster format is worth a word."""


def format_advice(loaded: LoadedModel, processor: str | None = None) -> str | None:
    """What to say of a format that this processor computes slowly, or of one that is much faster; None where there is nothing, as on a GPU.

    `processor` is the text of /proc/cpuinfo.
    """
    import torch

    if loaded.device.type != "cpu":
        return None
    has_bfloat16 = computes_bfloat16(_cpuinfo() if processor is None else processor)
    if loaded.dtype == torch.float16:
        return "model.dtype=float16 is slow on a processor and overflows above 65,504; set model.dtype=float32, or bfloat16"
    if loaded.dtype == torch.bfloat16 and has_bfloat16 is False:
        return "this processor has no instructions for bfloat16 (avx512_bf16), so it is slow here; model.dtype=float32 is faster, and more exact"
    if loaded.dtype == torch.float32 and has_bfloat16 and sum(weight.numel() for weight in loaded.model.parameters()) >= LARGE:
        return "this processor multiplies bfloat16 matrices about four times as fast as float32 ones: model.dtype=bfloat16 is quicker, float32 more exact"
    return None


def computes_bfloat16(processor: str) -> bool | None:
    """Whether a processor multiplies bfloat16 by itself, from its /proc/cpuinfo; None where that does not say what it can do."""
    lines = [line.partition(":")[2].split() for line in processor.splitlines() if line.lower().startswith(("flags", "features"))]
    return bool(BFLOAT16_FLAGS & set(lines[0])) if lines else None


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
