"""Pictures through the vision tower, once each; their features are then reused over languages, captions and interventions.

Shapes: N image tokens of one picture, D model width.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saebias.errors import ModelError
from saebias.vlm.loading import LoadedModel, memory_errors
from saebias.vlm.prompts import image_placeholder


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """What the decoder gets of each picture: `x_ND` per picture, in the order of its image tokens.

    `layouts` tells pictures apart that need different placeholders (Qwen's number of tokens depends on the size); `examples` keeps one picture of
    each layout, to expand further prompts; `grids` are Qwen's (time, height, width) patch counts.
    """

    x_ND: tuple[Tensor, ...]
    layouts: tuple[bytes, ...]
    examples: dict[bytes, Any]
    grids: tuple[Tensor, ...] | None
    as_list: bool

    def __len__(self) -> int:
        return len(self.x_ND)

    def take(self, rows: Sequence[int]) -> ImageFeatures:
        """The features of pictures `rows`, in that order; a picture may be taken several times."""
        grids = None if self.grids is None else tuple(self.grids[row] for row in rows)
        return ImageFeatures(tuple(self.x_ND[row] for row in rows), tuple(self.layouts[row] for row in rows), self.examples, grids, self.as_list)

    @property
    def grid_table(self) -> Tensor | None:
        """The patch counts as one tensor (pictures, 3), or None."""
        return None if self.grids is None else torch.stack(self.grids)


def join_features(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """Several batches of features as one, in order."""
    first = parts[0]
    examples = {layout: image for part in parts for layout, image in part.examples.items()}
    grids = None if first.grids is None else tuple(grid for part in parts for grid in part.grids or ())
    return ImageFeatures(tuple(x for part in parts for x in part.x_ND), tuple(key for part in parts for key in part.layouts), examples, grids, first.as_list)


@torch.no_grad()
def encode_images(loaded: LoadedModel, images: Sequence[Any], *, batch_size: int = 64) -> ImageFeatures:
    """Features of RGB pictures (PIL images, or uint8 arrays height x width x 3), `batch_size` at a time.

    Raises ModelError for a model whose pictures do not enter the token sequence (Llama-3.2-Vision), and InputError for a text-only one.
    """
    image_placeholder(loaded)
    if not loaded.adapter.has_image_tokens:
        raise ModelError(
            f"{loaded.adapter.family} model {loaded.name} reads pictures by cross-attention and has no image tokens in the sequence, "
            "so its image features cannot be shared or hooked; pass the images to build_inputs instead"
        )
    return join_features([encode_pixels(loaded, process_images(loaded, images[start : start + batch_size])) for start in range(0, len(images), batch_size)])


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pictures made ready for the vision tower, still in main memory; `counts` are image tokens per picture, the rest as in ImageFeatures."""

    tensors: dict[str, Tensor]
    counts: tuple[int, ...]
    layouts: tuple[bytes, ...]
    examples: dict[bytes, Any]
    grids: Tensor | None


def process_images(loaded: LoadedModel, images: Sequence[Any]) -> Pixels:
    """Resized and normalised pictures: the half of `encode_images` that needs no model and may run in another thread (with its own copy of the processor)."""
    processed = loaded.processor(images=[[image] for image in images], text=[image_placeholder(loaded)] * len(images), padding=True, return_tensors="pt")
    accepted = inspect.signature(loaded.model.base_model.get_image_features).parameters
    tensors = {name: processed[name] for name in processed if name in accepted}
    if loaded.device.type == "cuda":
        # Copies from pinned memory do not hold up the thread that queues work for the GPU.
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    ids = processed["input_ids"]
    counts = (ids == loaded.adapter.image_token_id).sum(1).tolist()
    masks = processed["attention_mask"].bool().numpy()
    layouts = tuple(np.ascontiguousarray(row[mask]).tobytes() for row, mask in zip(ids.numpy(), masks, strict=True))
    examples = {layout: image for layout, image in zip(reversed(layouts), reversed(images), strict=True)}
    return Pixels(tensors, tuple(counts), layouts, examples, processed.get("image_grid_thw"))


@torch.no_grad()
def encode_pixels(loaded: LoadedModel, pixels: Pixels) -> ImageFeatures:
    """The vision tower's features of pictures that `process_images` made ready, in one batch."""
    with memory_errors(f"encoding {len(pixels.layouts)} images"):
        tensors = {name: tensor.to(loaded.device, non_blocking=True) for name, tensor in pixels.tensors.items()}
        tensors["pixel_values"] = tensors["pixel_values"].to(loaded.dtype)
        pooled = loaded.model.base_model.get_image_features(**tensors, return_dict=True).pooler_output
    as_list = not isinstance(pooled, Tensor)
    flat = torch.cat(list(pooled)) if as_list else pooled
    x_ND = flat.reshape(-1, flat.shape[-1]).split(list(pixels.counts))
    grids = None if pixels.grids is None else tuple(pixels.grids.to(loaded.device))
    return ImageFeatures(x_ND, pixels.layouts, pixels.examples, grids, as_list)
