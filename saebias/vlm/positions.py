"""What each token of a row is, and which position the model is told it has.

Shapes: B rows, T columns, P position axes (1, or 3 where pictures have height and width positions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from saebias.errors import ModelError
from saebias.vlm.adapter import Adapter

PAD, IMAGE, PROMPT, CAPTION = 0, 1, 2, 3
KINDS = ("pad", "image", "prompt", "caption")
"""Names of the token-kind codes. Special tokens, the marks around a picture among them, are prompt."""

Where = Literal["all", "image", "text", "after_image", "prompt", "caption"]
"""Which positions an edit touches; padding never. `text` is all but image tokens, `after_image` the text behind the last image token."""

_RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "all": lambda kind_BT, _: kind_BT != PAD,
    "image": lambda kind_BT, _: kind_BT == IMAGE,
    "text": lambda kind_BT, _: kind_BT >= PROMPT,
    "after_image": lambda kind_BT, after_BT: (kind_BT >= PROMPT) & after_BT,
    "prompt": lambda kind_BT, _: kind_BT == PROMPT,
    "caption": lambda kind_BT, _: kind_BT == CAPTION,
}


def edit_mask(kind_BT: Tensor, after_image_BT: Tensor, where: str) -> Tensor:
    """The positions that `where` means, as a boolean (B, T); raises ModelError for an unknown rule."""
    if where not in _RULES:
        raise ModelError(f"unknown positions {where!r} for an edit; choose one of {', '.join(_RULES)}")
    return _RULES[where](kind_BT, after_image_BT)


def after_image(kind_BT: Tensor) -> Tensor:
    """Whether no image token stands at or behind a position, boolean (B, T); true everywhere in a row without picture."""
    images_behind_BT = (kind_BT == IMAGE).flip(1).cumsum(1).flip(1)
    return images_behind_BT == 0


def rope_positions(adapter: Adapter, input_ids_BT: Tensor, mask_BT: Tensor, kind_BT: Tensor, grids: Tensor | None) -> Tensor:
    """The position ids (P, B, T) that the model itself would use for each row alone, whatever the padding; 0 (or the first one) on padding."""
    if adapter.rope_index is not None:
        position_PBT, _ = adapter.rope_index(input_ids_BT, mm_token_type_ids=(kind_BT == IMAGE).int(), image_grid_thw=grids, attention_mask=mask_BT)
        return position_PBT
    first = 1 if adapter.is_prefix_lm else 0  # PaliGemma counts from 1
    return ((mask_BT.cumsum(1) - 1).clamp(min=0) + first)[None]


def next_positions(rope_PBT: Tensor, length: int) -> Tensor:
    """The position ids (P, B, length) of text that follows left-padded rows: it counts on from the largest position so far on every axis."""
    last_B = rope_PBT.amax(dim=(0, 2))
    following_BT = last_B[:, None] + 1 + torch.arange(length, device=rope_PBT.device)
    return following_BT[None].expand(rope_PBT.shape[0], -1, -1)
