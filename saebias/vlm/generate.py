"""Captions, greedy or sampled, with a cache and under edits.

Shapes: B rows, S steps, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.vlm.forward import Edit, PrefixState, caption_piece, run, run_prompt
from saebias.vlm.images import ImageFeatures, encode_images
from saebias.vlm.inputs import ModelInputs, build_inputs
from saebias.vlm.loading import LoadedModel

Mode = Literal["greedy", "sample"]
KEEP_WHOLE = 0.75


def generate_captions(
    loaded: LoadedModel,
    images: Sequence[Any] | ImageFeatures | None,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    mode: Mode = "greedy",
    temperature: float = 1.0,
    seed: int = 0,
    edit: Edit | None = None,
    use_chat_template: bool = False,
    row_ids: Sequence[int] | None = None,
    batch_size: int = 128,
) -> list[str]:
    """One caption per prompt, without special tokens and surrounding white space.

    A sampled caption depends on `seed` and its row id alone, not on the batch it is in. Row ids count from 0 unless given.
    """
    if images is not None and not isinstance(images, ImageFeatures) and loaded.adapter.has_image_tokens:
        images = encode_images(loaded, images)
    ids = list(range(len(prompts))) if row_ids is None else list(row_ids)
    # Prompts of one length together need no padding; the order of the answers is the caller's.
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
    captions = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        chosen = images.take(rows) if isinstance(images, ImageFeatures) else None if images is None else [images[row] for row in rows]
        inputs = build_inputs(loaded, chosen, [prompts[row] for row in rows], use_chat_template=use_chat_template, row_ids=[ids[row] for row in rows])
        tokens = generate_tokens(loaded, inputs, max_new_tokens=max_new_tokens, mode=mode, temperature=temperature, seed=seed, edit=edit)
        for row, caption in zip(rows, decode_captions(loaded, tokens), strict=True):
            captions[row] = caption
    return captions


def decode_captions(loaded: LoadedModel, tokens: Sequence[Sequence[int]]) -> list[str]:
    """The text of generated token ids, without special tokens and surrounding white space."""
    texts = loaded.tokenizer.batch_decode([list(ids) for ids in tokens], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() for text in texts]


@torch.no_grad()
def generate_tokens(
    loaded: LoadedModel,
    inputs: ModelInputs,
    *,
    max_new_tokens: int,
    mode: Mode = "greedy",
    temperature: float = 1.0,
    seed: int = 0,
    edit: Edit | None = None,
    prefix: PrefixState | None = None,
) -> list[tuple[int, ...]]:
    """The token ids that follow each prompt, up to and without the end-of-sequence token, at most `max_new_tokens`.

    Greedy takes the likeliest token (the first of equals); sampling inverts the cumulative distribution at a uniform number that belongs to
    (seed, row id, step), so that the batch never changes a sample. With `prefix` (see `forward.image_prefix`) the picture is not run again.
    """
    if mode not in ("greedy", "sample"):
        raise InputError(f"unknown generation mode {mode!r}; choose greedy or sample")
    if mode == "sample" and temperature <= 0:
        raise InputError(f"temperature {temperature} is not positive; use mode='greedy' for the likeliest caption")
    uniform_BS = _uniform(inputs.row_B, seed, max_new_tokens) if mode == "sample" else None
    ends = torch.tensor(loaded.eos_token_ids, device=loaded.device)
    logits_BV, cache, piece = run_prompt(loaded, inputs, edit=edit, prefix=prefix)
    row_R = torch.arange(len(inputs), device=loaded.device)
    table_BS = torch.full((len(inputs), max_new_tokens), -1, device=loaded.device)
    is_open_R = torch.ones_like(row_R, dtype=torch.bool)
    for step in range(max_new_tokens):
        token_R = logits_BV.argmax(-1) if uniform_BS is None else _draw(logits_BV, temperature, uniform_BS[row_R, step])
        is_open_R = is_open_R & ~torch.isin(token_R, ends)
        table_BS[row_R[is_open_R], step] = token_R[is_open_R]
        n_open = int(is_open_R.sum())
        if step + 1 == max_new_tokens or n_open == 0:
            break
        kept_R = torch.arange(len(row_R), device=loaded.device)
        # Rows that ended run on, their output discarded, until a quarter has: taking them out copies the cache.
        if n_open <= KEEP_WHOLE * len(row_R):
            kept_R = torch.nonzero(is_open_R)[:, 0]
            cache.batch_select_indices(kept_R.cpu())
        row_R, is_open_R, token_R = row_R[kept_R], is_open_R[kept_R], token_R[kept_R]
        piece = caption_piece(piece, kept_R, token_R[:, None], torch.ones_like(token_R[:, None], dtype=torch.bool))
        logits_BV = run(loaded, piece, cache=cache, edit=edit, logits="last")[:, -1]
    return [tuple(int(token) for token in row[row >= 0]) for row in table_BS.cpu().numpy()]


def _uniform(row_B: Tensor, seed: int, steps: int) -> Tensor:
    """Uniform numbers (B, S), each row's from its own stream."""
    numbers = np.stack([np.random.default_rng([seed, int(row)]).random(steps) for row in row_B.tolist()])
    return torch.from_numpy(numbers).to(row_B.device)


def _draw(logits_BV: Tensor, temperature: float, uniform_B: Tensor) -> Tensor:
    probability_BV = torch.softmax(logits_BV.double() / temperature, dim=-1)
    cumulative_BV = probability_BV.cumsum(-1)
    # The last sum can fall short of 1 by rounding; a number beyond it must not pick a token past the end.
    target_B1 = (uniform_B * cumulative_BV[:, -1])[:, None]
    return torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0].clamp(max=logits_BV.shape[-1] - 1)
