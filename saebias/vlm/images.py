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
    placeholder = image_placeholder(loaded)
    if not loaded.adapter.has_image_tokens:
        raise ModelError(
            f"{loaded.adapter.family} model {loaded.name} reads pictures by cross-attention and has no image tokens in the sequence, "
            "so its image features cannot be shared or hooked; pass the images to build_inputs instead"
        )
    with memory_errors(f"encoding {min(batch_size, len(images))} images"):
        parts = [_encode_batch(loaded, images[start : start + batch_size], placeholder) for start in range(0, len(images), batch_size)]
    return join_features(parts)


def _encode_batch(loaded: LoadedModel, images: Sequence[Any], placeholder: str) -> ImageFeatures:
    processed = loaded.processor(images=[[image] for image in images], text=[placeholder] * len(images), padding=True, return_tensors="pt")
    base = loaded.model.base_model
    accepted = inspect.signature(base.get_image_features).parameters
    tensors = {name: processed[name].to(loaded.device) for name in processed if name in accepted}
    tensors["pixel_values"] = tensors["pixel_values"].to(loaded.dtype)
    pooled = base.get_image_features(**tensors, return_dict=True).pooler_output
    as_list = not isinstance(pooled, Tensor)
    flat = torch.cat(list(pooled)) if as_list else pooled
    flat_ND = flat.reshape(-1, flat.shape[-1])
    ids = processed["input_ids"]
    is_image = ids == loaded.adapter.image_token_id
    x_ND = flat_ND.split(is_image.sum(1).tolist())
    masks = processed["attention_mask"].bool().numpy()
    layouts = tuple(np.ascontiguousarray(row[mask]).tobytes() for row, mask in zip(ids.numpy(), masks, strict=True))
    examples = {layout: image for layout, image in zip(reversed(layouts), reversed(images), strict=True)}
    grids = tuple(processed["image_grid_thw"].to(loaded.device)) if "image_grid_thw" in processed else None
    return ImageFeatures(x_ND, layouts, examples, grids, as_list)
