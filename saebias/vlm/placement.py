"""How a model is laid out on the hardware: over several devices, with fewer bits, with another attention kernel."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from saebias.errors import ModelError

QUANTIZATIONS = ("none", "8bit", "4bit")
ATTENTIONS = ("sdpa", "flash_attention_2", "eager")


@dataclass(frozen=True)
class Placement:
    """`device_map`: None puts the whole model on one device, `auto` spreads it over all there are. `attention`: None leaves the choice to transformers."""

    device_map: str | None = None
    quantization: str = "none"
    attention: str | None = None

    def options(self, dtype: str, device: str | torch.device) -> dict[str, Any]:
        """Keyword arguments of from_pretrained; raises ModelError for a choice that this machine cannot serve, with what it lacks."""
        self._check(dtype)
        options: dict[str, Any] = {}
        if self.device_map is not None:
            options["device_map"] = self.device_map
        if self.attention is not None:
            options["attn_implementation"] = self.attention
        if self.quantization != "none":
            options.setdefault("device_map", {"": device})
            options["quantization_config"] = self._quantization(dtype)
        return options

    def _check(self, dtype: str) -> None:
        if self.quantization not in QUANTIZATIONS:
            raise ModelError(f"unknown model.quantization={self.quantization!r}; choose one of {', '.join(QUANTIZATIONS)}")
        if self.attention is not None and self.attention not in ATTENTIONS:
            raise ModelError(f"unknown model.attention={self.attention!r}; choose one of {', '.join(ATTENTIONS)}")
        if self.quantization != "none":
            _needs("bitsandbytes", f"model.quantization={self.quantization}", 'pip install "saebias[quant]"')
            _needs_gpu(f"model.quantization={self.quantization}", "none")
        if self.attention == "flash_attention_2":
            _needs("flash_attn", "model.attention=flash_attention_2", "pip install flash-attn")
            _needs_gpu("model.attention=flash_attention_2", "sdpa")
            if dtype not in ("bfloat16", "float16"):
                raise ModelError(f"model.attention=flash_attention_2 computes in bfloat16 or float16, not {dtype}; set model.dtype=bfloat16")

    def _quantization(self, dtype: str) -> BitsAndBytesConfig:
        if self.quantization == "8bit":
            return BitsAndBytesConfig(load_in_8bit=True)
        compute = torch.float16 if dtype == "float16" else torch.float32 if dtype == "float32" else torch.bfloat16
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _needs(package: str, setting: str, command: str) -> None:
    if find_spec(package) is None:
        raise ModelError(f"{setting} needs the package {package}, which is not installed: `{command}`")


def _needs_gpu(setting: str, instead: str) -> None:
    if not torch.cuda.is_available():
        raise ModelError(f"{setting} needs a CUDA GPU and this machine has none; set {setting.partition('=')[0]}={instead}")
