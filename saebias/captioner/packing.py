"""Both captions of a picture in one sequence, with the exact next-token distribution of the plant as the target.

A packed row is [picture prefix | English prompt and caption | Arabic prompt and caption]; a mask hides each language from the other, and positions of
both count on from the prefix, so that each language sees just what it would see alone (a test compares them with the ordinary forward pass).

Legend: B scenes, T positions of a packed row, C caption positions (the last prompt token and the caption), K alternatives at a position, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

from saebias.captioner.captions import caption_variants
from saebias.captioner.scenes import GENDERS, Scene
from saebias.captioner.spec import CaptionerSpec
from saebias.captioner.tokenizer import BEGIN_IMAGE, BOS, END_IMAGE, IMAGE, LINE_BREAKS
from saebias.identifiers import LANGUAGES

ALTERNATIVES = 3


@dataclass(frozen=True)
class CaptionTable:
    """Every caption of one language as token ids, and where the captions of a scene lie in it.

    `ids` [row, C-1] captions padded at the end; `target_ids`, `target_shares` [row, C, K] what the plant says comes next (share 0: no alternative);
    `rows`, `shares` [context, gender, object, K] the captions of a scene and their probabilities.
    """

    language: str
    ids: np.ndarray
    target_ids: np.ndarray
    target_shares: np.ndarray
    rows: np.ndarray
    shares: np.ndarray

    def draw(self, scene_index_B3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One row per scene, drawn from its planted distribution."""
        index = tuple(scene_index_B3.T)
        chosen_B = (rng.random(len(scene_index_B3))[:, None] > self.shares[index].cumsum(1)).sum(1).clip(max=ALTERNATIVES - 1)
        return self.rows[index][np.arange(len(chosen_B)), chosen_B]


@dataclass(frozen=True)
class PackedLayout:
    """Where things lie in a packed row: mask [1, 1, T, T], positions [1, T], prefix and prompt ids, and the caption positions of each language."""

    prefix_ids: torch.Tensor
    image_slice: slice
    prompt_ids: dict[str, torch.Tensor]
    caption_slices: dict[str, slice]
    mask: torch.Tensor
    positions: torch.Tensor


def scene_indices(scenes: list[Scene], spec: CaptionerSpec) -> np.ndarray:
    """[B, 3] context, gender and object index of each scene."""
    contexts, objects = {context.name: i for i, context in enumerate(spec.contexts)}, {name: i for i, (name, _) in enumerate(spec.objects)}
    return np.array([(contexts[scene.context], GENDERS.index(scene.gender), objects[scene.object]) for scene in scenes])


def caption_table(spec: CaptionerSpec, language: str, tokenizer: PreTrainedTokenizerFast) -> CaptionTable:
    """All captions of `language` under `spec`, tokenized."""
    sequences: list[list[int]] = []
    targets: list[list[dict[int, float]]] = []
    shape = (len(spec.contexts), len(GENDERS), len(spec.objects), ALTERNATIVES)
    rows, shares = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    for cell in np.ndindex(shape[:3]):
        variants = caption_variants(spec.contexts[cell[0]], GENDERS[cell[1]], spec.objects[cell[2]][0], language, spec)
        ids = [[*tokenizer.encode(" " + variant.text, add_special_tokens=False), tokenizer.eos_token_id] for variant in variants]
        weights = [variant.probability for variant in variants]
        for k, sequence in enumerate(ids):
            rows[(*cell, k)], shares[(*cell, k)] = len(sequences), weights[k]
            sequences.append(sequence)
            targets.append([_next_tokens(sequence[:t], ids, weights) for t in range(len(sequence))])
    length = max(len(sequence) for sequence in sequences)
    padded = np.full((len(sequences), length), tokenizer.pad_token_id, dtype=np.int64)
    target_shares = np.zeros((len(sequences), length, ALTERNATIVES), dtype=np.float32)
    target_ids = target_shares.astype(np.int64)
    for row, (sequence, distributions) in enumerate(zip(sequences, targets, strict=True)):
        padded[row, : len(sequence)] = sequence
        for t, distribution in enumerate(distributions):
            target_ids[row, t, : len(distribution)] = list(distribution)
            target_shares[row, t, : len(distribution)] = list(distribution.values())
    # <eos> is predicted and never read, so the inputs are one shorter than the targets.
    return CaptionTable(language, padded[:, :-1], target_ids, target_shares, rows, shares)


def packed_layout(spec: CaptionerSpec, tokenizer: PreTrainedTokenizerFast, tables: dict[str, CaptionTable]) -> PackedLayout:
    """The layout of packed rows for `spec`, the same for every batch."""
    ids = tokenizer.get_vocab()
    prefix = [ids[token] for token in (BOS, LINE_BREAKS, BEGIN_IMAGE, *[IMAGE] * spec.model.image_tokens, END_IMAGE, LINE_BREAKS)]
    image_slice = slice(prefix.index(ids[IMAGE]), prefix.index(ids[END_IMAGE]))
    prompts = {language: tokenizer.encode(spec.prompt(language), add_special_tokens=False) for language in LANGUAGES}
    layout = layout_of(prefix, image_slice, prompts, tables)
    layout.mask[:, :, image_slice, image_slice] = 0.0  # Gemma 3's image tokens see each other
    return layout


def layout_of(prefix: list[int], image_slice: slice, prompts: dict[str, list[int]], tables: dict[str, CaptionTable]) -> PackedLayout:
    """The layout of packed rows that begin with `prefix` and ask in each language with its prompt; every position sees what stands before it."""
    segment_T, position_T, slices, start = [0] * len(prefix), list(range(len(prefix))), {}, len(prefix)
    for number, (language, prompt) in enumerate(prompts.items(), start=1):
        length = len(prompt) + tables[language].ids.shape[1]
        slices[language] = slice(start + len(prompt) - 1, start + length)
        segment_T += [number] * length
        position_T += range(len(prefix), len(prefix) + length)
        start += length
    segments, order = torch.tensor(segment_T), torch.arange(len(segment_T))
    allowed_TT = (order[:, None] >= order) & ((segments == 0) | (segments[:, None] == segments))
    # Added to the scores: every attention implementation takes that form.
    mask = torch.zeros(allowed_TT.shape).masked_fill(~allowed_TT, torch.finfo(torch.float32).min)[None, None]
    asked = {language: torch.tensor(prompt) for language, prompt in prompts.items()}
    return PackedLayout(torch.tensor(prefix), image_slice, asked, slices, mask, torch.tensor(position_T)[None])


def packed_logits(
    model: Gemma3ForConditionalGeneration, layout: PackedLayout, pooled: torch.Tensor, caption_ids: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Logits [B, C, V] at the caption positions of each language, from pooled tower features [B, image tokens, width] and caption ids [B, C-1]."""
    projector, decoder = model.model.multi_modal_projector, model.model.language_model
    embed, count = decoder.embed_tokens, len(pooled)
    image = projector.mm_soft_emb_norm(pooled) @ projector.mm_input_projection_weight
    before, after = layout.prefix_ids[: layout.image_slice.start], layout.prefix_ids[layout.image_slice.stop :]
    pieces = [embed(before).expand(count, -1, -1), image.to(embed.weight.dtype), embed(after).expand(count, -1, -1)]
    for language in LANGUAGES:
        pieces += [embed(layout.prompt_ids[language]).expand(count, -1, -1), embed(caption_ids[language])]
    masks = {"full_attention": layout.mask, "sliding_attention": layout.mask}
    hidden = decoder(inputs_embeds=torch.cat(pieces, dim=1), attention_mask=masks, position_ids=layout.positions, use_cache=False).last_hidden_state
    return {language: model.lm_head(hidden[:, layout.caption_slices[language]]) for language in LANGUAGES}


def caption_cross_entropy(logits_BCV: torch.Tensor, target_ids_BCK: torch.Tensor, target_shares_BCK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy and entropy floor [B, C] in nats at every position, 0 at padding.

    The expectation over what comes next is taken exactly, given the caption so far, instead of over drawn tokens.
    """
    log_p = torch.log_softmax(logits_BCV.float(), dim=-1).gather(2, target_ids_BCK)
    return -(target_shares_BCK * log_p).sum(-1), -torch.xlogy(target_shares_BCK, target_shares_BCK).sum(-1)


def _next_tokens(prefix: list[int], sequences: list[list[int]], weights: list[float]) -> dict[int, float]:
    shares: dict[int, float] = {}
    for sequence, weight in zip(sequences, weights, strict=True):
        if sequence[: len(prefix)] == prefix:
            shares[sequence[len(prefix)]] = shares.get(sequence[len(prefix)], 0.0) + weight
    total = sum(shares.values())
    return {token: share / total for token, share in shares.items()}
