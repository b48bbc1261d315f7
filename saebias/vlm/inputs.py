"""Rows of (picture, prompt, caption) as the tensors of a forward pass, every token with its kind and position.

Shapes: B rows, T columns, P position axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from saebias.errors import InputError
from saebias.vlm.adapter import Adapter
from saebias.vlm.cross_attention import cross_attention_tensors
from saebias.vlm.images import ImageFeatures, encode_images
from saebias.vlm.loading import LoadedModel
from saebias.vlm.positions import CAPTION, IMAGE, PAD, PROMPT, after_image, rope_positions
from saebias.vlm.prompts import PromptTokens, caption_tokens, prompt_tokens, render_prompt

Padding = Literal["left", "right"]


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """A batch: `model(**inputs.tensors)` runs it.

    `token_kind_BT` are codes of `positions.KINDS`; `position_BT` counts from 0 within the row without padding (-1 on padding); `rope_PBT` are the
    model's own position ids; `row_B` the caller's row numbers. `prompts` and `captions` are the unpadded tokens.
    """

    adapter: Adapter
    input_ids_BT: Tensor
    attention_mask_BT: Tensor
    token_kind_BT: Tensor
    position_BT: Tensor
    rope_PBT: Tensor
    type_ids_BT: Tensor | None
    row_B: Tensor
    prompts: tuple[PromptTokens, ...]
    captions: tuple[tuple[int, ...], ...]
    features: ImageFeatures | None
    cross_attention: dict[str, Tensor] | None
    padding: Padding
    pad_id: int

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def prompt_length_B(self) -> np.ndarray:
        """Tokens of each prompt, image tokens counted."""
        return np.array([len(prompt.ids) for prompt in self.prompts])

    @property
    def caption_length_B(self) -> np.ndarray:
        """Tokens of each teacher-forced caption."""
        return np.array([len(caption) for caption in self.captions])

    @property
    def after_image_BT(self) -> Tensor:
        """Positions with no image token at or behind them."""
        return after_image(self.token_kind_BT)

    def column(self, row: int, position: int) -> int:
        """The column that holds position `position` (from 0, without padding) of row `row`."""
        start = self.input_ids_BT.shape[1] - len(self.prompts[row].ids) - len(self.captions[row]) if self.padding == "left" else 0
        return start + position

    @property
    def image_tensors(self) -> dict[str, Any]:
        """The keyword arguments through which the model gets the pictures."""
        if self.features is None:
            return dict(self.cross_attention or {})
        return {"mm_encoder_outputs": {"image": _encoder_output(self.features)}}

    @property
    def tensors(self) -> dict[str, Any]:
        """Keyword arguments of the model for this batch in one pass."""
        rope = self.rope_PBT if self.adapter.rope_index is not None else self.rope_PBT[0]
        tensors = {"input_ids": self.input_ids_BT, "attention_mask": self.attention_mask_BT, "position_ids": rope, **self.image_tensors}
        if self.type_ids_BT is not None:
            tensors[str(self.adapter.type_ids_name)] = self.type_ids_BT
        return tensors

    def with_captions(self, captions: Sequence[Sequence[int]], *, padding: Padding) -> ModelInputs:
        """The same pictures and prompts with other teacher-forced caption tokens."""
        if self.cross_attention is not None:
            raise InputError(f"{self.adapter.family} inputs cannot take other captions; build them anew with build_inputs")
        device = self.input_ids_BT.device
        built = _assemble(self.adapter, self.prompts, captions, self.features, padding=padding, pad_id=self.pad_id, device=device)
        return replace(built, row_B=self.row_B)


def _encoder_output(features: ImageFeatures) -> BaseModelOutputWithPooling:
    # The families differ in whether they expect a list of (tokens, width) or one tensor (pictures, tokens, width); both end as the same rows.
    pooled: Any = list(features.x_ND) if features.as_list else torch.cat(features.x_ND)[None]
    return BaseModelOutputWithPooling(pooler_output=pooled)


def build_inputs(
    loaded: LoadedModel,
    images: Sequence[Any] | ImageFeatures | None,
    prompts: Sequence[str],
    continuations: Sequence[str] | None = None,
    *,
    use_chat_template: bool = False,
    padding: Padding | None = None,
    row_ids: Sequence[int] | None = None,
) -> ModelInputs:
    """One row per prompt, with its picture in front as the prompt says and its caption, if given, teacher-forced behind.

    Prompts alone are padded on the left (generation and scoring continue them), prompts with captions on the right (a picture then stands at the
    same columns in every row); either changes nothing. `row_ids` numbers the rows for edits and sampling, from 0 otherwise.
    Raises InputError for counts that do not match, a missing image slot, or a row longer than the model's context.
    """
    n_images = None if images is None else len(images)
    for name, count in (("images", n_images), ("continuations", None if continuations is None else len(continuations))):
        if count is not None and count != len(prompts):
            raise InputError(f"{count} {name} for {len(prompts)} prompts; give one for each row")
    if not prompts:
        raise InputError("no prompts: a batch needs at least one row")
    rendered = [render_prompt(loaded, prompt, has_image=images is not None, use_chat_template=use_chat_template) for prompt in prompts]
    padding = padding or ("left" if continuations is None else "right")
    texts = [""] * len(prompts) if continuations is None else continuations
    features, cross_attention = None, None
    if images is not None and not isinstance(images, ImageFeatures) and not loaded.adapter.has_image_tokens and loaded.processor is not None:
        tokens = [prompt_tokens(loaded, text, image) for text, image in zip(rendered, images, strict=True)]
        captions = _tokenize_captions(loaded, tokens, texts)
        cross_attention = cross_attention_tensors(loaded, images, rendered, tokens, captions, padding)
    else:
        features = images if images is None or isinstance(images, ImageFeatures) else encode_images(loaded, images)
        tokens = _tokenize_prompts(loaded, rendered, features)
        captions = _tokenize_captions(loaded, tokens, texts)
    built = _assemble(loaded.adapter, tokens, captions, features, padding=padding, pad_id=loaded.pad_token_id, device=loaded.device)
    row_B = built.row_B if row_ids is None else torch.as_tensor(list(row_ids), device=loaded.device)
    return replace(built, row_B=row_B, cross_attention=cross_attention)


def token_inputs(
    loaded: LoadedModel,
    prompts: Sequence[PromptTokens],
    captions: Sequence[Sequence[int]],
    features: ImageFeatures | None,
    *,
    cross_attention: dict[str, Tensor] | None = None,
) -> ModelInputs:
    """A right-padded batch of prompts and captions that are tokens already, with the features of each row's picture (or `cross_attention_tensors`)."""
    built = _assemble(loaded.adapter, prompts, captions, features, padding="right", pad_id=loaded.pad_token_id, device=loaded.device)
    return replace(built, cross_attention=cross_attention)


def _tokenize_prompts(loaded: LoadedModel, rendered: Sequence[str], features: ImageFeatures | None) -> list[PromptTokens]:
    """Tokens of each row's prompt; every pair of prompt and picture layout is tokenised once."""
    if features is None:
        known = {text: prompt_tokens(loaded, text) for text in dict.fromkeys(rendered)}
        return [known[text] for text in rendered]
    keys = list(zip(rendered, features.layouts, strict=True))
    expanded = {key: prompt_tokens(loaded, key[0], features.examples[key[1]]) for key in dict.fromkeys(keys)}
    return [expanded[key] for key in keys]


def _tokenize_captions(loaded: LoadedModel, prompts: Sequence[PromptTokens], texts: Sequence[str]) -> list[tuple[int, ...]]:
    captions: list[tuple[int, ...]] = [()] * len(prompts)
    for prompt in dict.fromkeys(prompts):
        rows = [row for row, other in enumerate(prompts) if other == prompt and texts[row]]
        for row, ids in zip(rows, caption_tokens(loaded, prompt, [texts[row] for row in rows]), strict=True):
            captions[row] = ids
    return captions


def _assemble(
    adapter: Adapter,
    prompts: Sequence[PromptTokens],
    captions: Sequence[Sequence[int]],
    features: ImageFeatures | None,
    *,
    padding: Padding,
    pad_id: int,
    device: torch.device,
) -> ModelInputs:
    ids_BT, kind_BT, position_BT, type_BT = _token_table(adapter, prompts, captions, padding, pad_id)
    if features is not None:
        kind_BT[(ids_BT == adapter.image_token_id) & (kind_BT == PROMPT)] = IMAGE
    ids, kinds = torch.from_numpy(ids_BT).to(device), torch.from_numpy(kind_BT).to(device)
    mask = (kinds != PAD).long()
    has_types = adapter.type_ids_name is not None and any(prompt.type_ids is not None for prompt in prompts)
    return ModelInputs(
        adapter=adapter,
        input_ids_BT=ids,
        attention_mask_BT=mask,
        token_kind_BT=kinds,
        position_BT=torch.from_numpy(position_BT).to(device),
        rope_PBT=rope_positions(adapter, ids, mask, kinds, None if features is None else features.grid_table),
        type_ids_BT=torch.from_numpy(type_BT).to(device) if has_types else None,
        row_B=torch.arange(len(prompts), device=device),
        prompts=tuple(prompts),
        captions=tuple(tuple(caption) for caption in captions),
        features=features,
        cross_attention=None,
        padding=padding,
        pad_id=pad_id,
    )


def _token_table(
    adapter: Adapter, prompts: Sequence[PromptTokens], captions: Sequence[Sequence[int]], padding: Padding, pad_id: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Token ids, kinds (image tokens still counted as prompt), positions within the row and type ids, each (B, T)."""
    lengths = [len(prompt.ids) + len(caption) for prompt, caption in zip(prompts, captions, strict=True)]
    columns = max(lengths)
    if columns > adapter.max_positions:
        row = int(np.argmax(lengths))
        raise InputError(f"row {row} has {columns} tokens but the model's context is {adapter.max_positions}; shorten the prompt or the caption")
    ids_BT = np.full((len(prompts), columns), pad_id, dtype=np.int64)
    kind_BT = np.full(ids_BT.shape, PAD, dtype=np.uint8)
    position_BT = np.full(ids_BT.shape, -1, dtype=np.int64)
    type_BT = np.zeros(ids_BT.shape, dtype=np.int64)
    for row, (prompt, caption, length) in enumerate(zip(prompts, captions, lengths, strict=True)):
        start = columns - length if padding == "left" else 0
        middle, end = start + len(prompt.ids), start + length
        ids_BT[row, start:middle], ids_BT[row, middle:end] = prompt.ids, tuple(caption)
        kind_BT[row, start:middle], kind_BT[row, middle:end] = PROMPT, CAPTION
        position_BT[row, start:end] = np.arange(length)
        if prompt.type_ids is not None:
            # PaliGemma marks the causal part behind its bidirectional prompt with 1; elsewhere text is 0.
            type_BT[row, start:middle], type_BT[row, middle:end] = prompt.type_ids, int(adapter.is_prefix_lm)
    return ids_BT, kind_BT, position_BT, type_BT
