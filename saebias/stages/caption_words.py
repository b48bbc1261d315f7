"""The words of held-out captions as activation rows: which row reads a word whole, how the word is formed, and what it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.identifiers import LANGUAGES
from saebias.pipeline.stage import StageContext
from saebias.stages.activation_source import Source
from saebias.stages.label_access import labeller_of

if TYPE_CHECKING:
    from saebias.corpus.word_forms import Word
    from saebias.stages.token_index import TokenIndex
    from saebias.vlm.loading import LoadedModel

TOKENS_PER_WORD = 40
"""Rows of one word and meaning that are kept, the same however the captions are ordered."""
GRAMMAR_SHARE = 0.25
"""A word that says nothing of gender and stands in more captions than this is grammar (beside, a), not the name of a thing."""


@dataclass(frozen=True)
class _Caption:
    sample_id: str
    rows: np.ndarray
    token_ids: tuple[int, ...]


def word_rows(ctx: StageContext, source: Source) -> list[dict[str, Any]]:
    """Rows of caption_words; none (and a warning) where no whole caption's tokens were kept."""
    from saebias.stages.model_access import open_model

    loaded = open_model(ctx.cfg)
    token_ids = _token_ids(ctx)
    found: list[dict[str, Any]] = []
    for language in LANGUAGES:
        part = source.index.where(
            (source.index.token_kind == "caption") & (source.index.language == language) & np.isin(source.index.split, ("select", "report"))
        )
        captions = list(_captions(part, token_ids))
        if not captions:
            ctx.reporter.warn(f"no {language} caption tokens were kept outside the split sae: form and meaning of {language} words cannot be told apart")
            continue
        found += _language_rows(ctx, source, loaded, captions, language)
    return found


def _token_ids(ctx: StageContext) -> np.ndarray:
    table = ctx.table("token_rows").sort_by("row")
    rows = table["row"].to_numpy()
    ids = np.full(int(rows.max()) + 1 if len(rows) else 0, -1, dtype=np.int64)
    ids[rows] = table["token_id"].to_numpy()
    return ids


def _captions(part: TokenIndex, token_ids: np.ndarray) -> Iterator[_Caption]:
    """Captions whose tokens are all there; a row that only stands in for another beginning of the caption is none of them."""
    if not len(part):
        return
    starts = np.flatnonzero(np.append(True, part.sample_id[1:] != part.sample_id[:-1]))
    for start, stop in zip(starts, [*starts[1:], len(part)], strict=True):
        steps = np.diff(part.position[start:stop])
        apart = np.flatnonzero(steps != 1)
        end = stop if not len(apart) else start + apart[0] + 1
        if len(apart) and steps[apart[0]] > 1 and not (end == stop - 1 and part.decision[end]):
            # Tokens in between were not kept: the words cannot be read. (A last row that decides stands behind another beginning, at a place of its own.)
            continue
        rows = part.row[start:end]
        yield _Caption(str(part.sample_id[start]), rows, tuple(token_ids[rows].tolist()))


def _language_rows(ctx: StageContext, source: Source, loaded: LoadedModel, captions: list[_Caption], language: str) -> list[dict[str, Any]]:
    from saebias.corpus.grouping import draw

    known: dict[tuple[int, ...], list[tuple[int, Word]]] = {}
    for caption in captions:
        if caption.token_ids not in known:
            known[caption.token_ids] = list(_placed_words(ctx, loaded, caption.token_ids, language))
    captions_with: dict[str, int] = {}
    for caption in captions:
        for surface in {word.surface for _, word in known[caption.token_ids] if not word.rule}:
            captions_with[surface] = captions_with.get(surface, 0) + 1
    rows: dict[tuple[str, str], list[tuple[float, dict[str, Any]]]] = {}
    for caption in captions:
        sample = source.samples[caption.sample_id]
        for place, word in known[caption.token_ids]:
            meaning = _meaning(word, sample["visual_gender"])
            if meaning is None or (not word.rule and captions_with[word.surface] > GRAMMAR_SHARE * len(captions)):
                continue
            row = {
                "row": int(caption.rows[place]),
                "sample_id": caption.sample_id,
                "language": language,
                "word": word.surface,
                "is_feminine_form": word.is_feminine_form,
                "meaning": meaning,
                "rule": word.rule or None,
                "shows": sample["visual_gender"],
                "cluster_id": sample["cluster_id"],
            }
            # A person noun that says no gender is compared between pictures of women and of men, so each keeps its share.
            group = (word.surface, f"{meaning}{sample['visual_gender']}" if word.rule and meaning == "N" else meaning)
            rows.setdefault(group, []).append((draw(0, "word", f"{caption.sample_id}-{place}"), row))
    chosen = [row for group in rows.values() for _, row in sorted(group, key=lambda pair: pair[0])[:TOKENS_PER_WORD]]
    return sorted(chosen, key=lambda row: row["row"])


def _meaning(word: Word, shows: str | None) -> str | None:
    """What the word means; a masculine by grammar alone means a man where the picture shows one, and is left out where it may mean anybody."""
    if word.meaning == "m":
        return "M" if shows == "M" else None
    return word.meaning


def _placed_words(ctx: StageContext, loaded: LoadedModel, token_ids: tuple[int, ...], language: str) -> Iterator[tuple[int, Word]]:
    """(token number, word): the token at which the word has been read whole."""
    from saebias.corpus.word_forms import words_of

    decode = loaded.tokenizer.decode
    text = decode(list(token_ids), skip_special_tokens=True).strip()
    ends = np.array([len(decode(list(token_ids[: place + 1]), skip_special_tokens=True).strip()) for place in range(len(token_ids))])
    for word in words_of(text, language, labeller_of(ctx.cfg, language)):
        reached = np.flatnonzero(ends >= word.end)
        if len(reached):
            yield int(reached[0]), word
