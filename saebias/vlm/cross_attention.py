"""Pictures of models that read them by cross-attention (Llama-3.2-Vision): pixel tensors and the mask that says which token sees which picture.

Shapes: B rows, T columns, I pictures per row, K tiles per picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from saebias.errors import ModelError
from saebias.vlm.loading import LoadedModel
from saebias.vlm.prompts import PromptTokens, adds_special_tokens

PIXEL_NAMES = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")


def cross_attention_tensors(
    loaded: LoadedModel, images: Sequence[Any], rendered: Sequence[str], prompts: Sequence[PromptTokens], captions: Sequence[Sequence[int]], padding: str
) -> dict[str, Tensor]:
    """The pixel tensors and `cross_attention_mask` (B, T, I, K) of rows with one picture each; caption tokens see what the last prompt token sees."""
    outputs = [
        loaded.processor(images=[[image]], text=[text], add_special_tokens=adds_special_tokens(loaded, text), return_tensors="pt")
        for image, text in zip(images, rendered, strict=True)
    ]
    if any(name not in outputs[0] for name in (*PIXEL_NAMES, "cross_attention_mask")):
        raise ModelError(f"{loaded.adapter.family} model {loaded.name} takes pictures neither as image tokens nor by cross-attention; not supported")
    columns = max(len(prompt.ids) + len(caption) for prompt, caption in zip(prompts, captions, strict=True))
    mask_BTIK = torch.zeros(len(images), columns, *outputs[0]["cross_attention_mask"].shape[2:], dtype=torch.long)
    for row, (output, prompt, caption) in enumerate(zip(outputs, prompts, captions, strict=True)):
        start = columns - len(prompt.ids) - len(caption) if padding == "left" else 0
        middle = start + len(prompt.ids)
        mask_BTIK[row, start:middle] = output["cross_attention_mask"][0]
        mask_BTIK[row, middle : middle + len(caption)] = output["cross_attention_mask"][0, -1]
    tensors = {name: torch.cat([output[name] for output in outputs]).to(loaded.device) for name in PIXEL_NAMES}
    tensors["pixel_values"] = tensors["pixel_values"].to(loaded.dtype)
    return tensors | {"cross_attention_mask": mask_BTIK.to(loaded.device)}
