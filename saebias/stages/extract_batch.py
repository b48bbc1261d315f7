"""One shard of activations: batches of pictures through the model, each token's row put where the plan says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from saebias.config.schema import Config
from saebias.errors import InputError
from saebias.report import Task
from saebias.stages.extract import LANGUAGES, Item
from saebias.stages.model_access import ClosedSet, closed_set_of, open_pictures, shared_prefix

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.vlm.forward import PrefixState
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.inputs import ModelInputs
    from saebias.vlm.loading import LoadedModel

# Legend: N rows of the shard, L hook points, D model dimension, B batch rows, T token columns.


@dataclass(frozen=True)
class ShardWork:
    """What one shard needs to know."""

    number: int
    items: Sequence[Item]
    hooks: Sequence[HookPoint]
    cfg: Config
    prompts: dict[str, str]
    closed_sets: dict[tuple[str, str], ClosedSet]


@dataclass(frozen=True)
class FilledShard:
    """The shard's activations, the index of its rows, and what became of each caption."""

    values_NLD: np.ndarray
    token_rows: pa.Table
    status: list[dict[str, Any]]


@dataclass
class _Rows:
    """The row index while it grows, column by column."""

    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, **columns: np.ndarray) -> None:
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values)

    def column(self, name: str) -> np.ndarray:
        return np.concatenate(self.columns[name])


def fill_shard(loaded: LoadedModel, work: ShardWork, task: Task) -> FilledShard:
    """Run the shard's captions; raises InputError naming sample, layer and number format for a value that is not finite."""
    values_NLD = np.zeros((work.cfg.extract.shard_rows, len(work.hooks), loaded.adapter.d_model), dtype=np.float32)
    rows, status = _Rows(), []
    by_sample: dict[str, list[Item]] = {}
    for item in work.items:
        by_sample.setdefault(item.sample["sample_id"], []).append(item)
    groups = list(by_sample.values())
    for start in range(0, len(groups), work.cfg.runtime.batch_size):
        group = groups[start : start + work.cfg.runtime.batch_size]
        status += _run_group(loaded, work, group, values_NLD, rows)
        task.advance(sum(len(items) for items in group))
    return FilledShard(values_NLD, _table(loaded, work, rows), status)


def _run_group(loaded: LoadedModel, work: ShardWork, group: Sequence[Sequence[Item]], values_NLD: np.ndarray, rows: _Rows) -> list[dict[str, Any]]:
    from saebias.vlm.images import encode_images
    from saebias.vlm.inputs import build_inputs

    pictures = open_pictures([items[0].sample for items in group])
    status = [_status(item, picture) for items, picture in zip(group, pictures, strict=True) if isinstance(picture, str) for item in items]
    usable = [(items, picture) for items, picture in zip(group, pictures, strict=True) if not isinstance(picture, str)]
    if not usable:
        return status
    # The vision tower sees each picture once, for both languages.
    features = encode_images(loaded, [picture for _, picture in usable])
    prefix: PrefixState | None = None
    run: list[int] = []
    for language in LANGUAGES:
        batch = [(number, item) for number, (items, _) in enumerate(usable) for item in items if item.language == language]
        if batch:
            numbers, items = [number for number, _ in batch], [item for _, item in batch]
            taken = features.take(numbers)
            prompts = [work.prompts[language]] * len(items)
            inputs = build_inputs(loaded, taken, prompts, [item.caption for item in items], use_chat_template=work.cfg.model.chat_template)
            # So does the decoder: what stands behind the picture is all that differs between languages and captions.
            if prefix is None or run != numbers:
                prefix, run = shared_prefix(loaded, inputs, work.hooks), numbers
            else:
                prefix = prefix.take(range(len(items)), inputs)
            counts = _run_batch(loaded, work, Batch(taken, inputs, prefix), items, values_NLD, rows)
            status += [
                {"sample_id": item.sample["sample_id"], "language": language, "status": "done", "reason": None, "n_rows": n}
                for item, n in zip(items, counts, strict=True)
            ]
    return status


def _status(item: Item, reason: str) -> dict[str, Any]:
    return {"sample_id": item.sample["sample_id"], "language": item.language, "status": "failed", "reason": reason, "n_rows": 0}


@dataclass(frozen=True)
class Batch:
    """Captions of one language with the features of their pictures and the state behind them."""

    features: ImageFeatures
    inputs: ModelInputs
    prefix: PrefixState | None


def _run_batch(loaded: LoadedModel, work: ShardWork, batch: Batch, items: Sequence[Item], values_NLD: np.ndarray, rows: _Rows) -> np.ndarray:
    from saebias.vlm.inputs import build_inputs
    from saebias.vlm.positions import IMAGE, PAD

    inputs = batch.inputs
    commons = _shared_beginnings(loaded, work, inputs, items)
    kind_BT = inputs.token_kind_BT.cpu().numpy()
    keep_BT = kind_BT != PAD
    if work.cfg.extract.image_tokens == "none":
        keep_BT &= kind_BT != IMAGE
    decision_BT = np.zeros_like(keep_BT)
    for row, common in enumerate(commons):
        if common is not None and inputs.captions[row][: len(common)] == common:
            decision_BT[row, inputs.column(row, int(inputs.prompt_length_B[row]) - 1 + len(common))] = True
    counts = _keep_rows(loaded, work, batch, items, keep_BT, decision_BT, np.zeros(len(items), dtype=np.int64), values_NLD, rows)
    # Where the reference caption begins otherwise, the decision is read behind the beginning that F and M share.
    apart = [(row, common) for row, common in enumerate(commons) if common is not None and not decision_BT[row].any()]
    if apart:
        numbers = [row for row, _ in apart]
        prompts = [work.prompts[items[0].language]] * len(apart)
        taken = batch.features.take(numbers)
        again = build_inputs(loaded, taken, prompts, use_chat_template=work.cfg.model.chat_template)
        again = again.with_captions([common for _, common in apart], padding="right")
        prefix = None if batch.prefix is None else batch.prefix.take(numbers, again)
        last = np.zeros(tuple(again.input_ids_BT.shape), dtype=bool)
        for row, (_, common) in enumerate(apart):
            last[row, again.column(row, int(again.prompt_length_B[row]) + len(common) - 1)] = True
        counts[numbers] += _keep_rows(loaded, work, Batch(taken, again, prefix), [items[row] for row in numbers], last, last, counts[numbers], values_NLD, rows)
    return counts


def _shared_beginnings(loaded: LoadedModel, work: ShardWork, inputs: ModelInputs, items: Sequence[Item]) -> list[tuple[int, ...] | None]:
    """Per item the tokens that its F and M continuations share, or None where it has no closed set."""
    from saebias.vlm.prompts import caption_tokens, common_prefix

    known: dict[ClosedSet, tuple[int, ...]] = {}
    found: list[tuple[int, ...] | None] = []
    for item in items:
        chosen = closed_set_of(work.closed_sets, item.sample["context"], item.language)
        if chosen is not None and chosen not in known:
            # The boundary depends on the prompt's last character alone, which is the same for all rows of a language.
            tokens = caption_tokens(loaded, inputs.prompts[0], [*chosen.female, *chosen.male])
            known[chosen] = tokens[0][: common_prefix(tokens)]
        found.append(None if chosen is None else known[chosen])
    return found


def _keep_rows(
    loaded: LoadedModel,
    work: ShardWork,
    batch: Batch,
    items: Sequence[Item],
    keep_BT: np.ndarray,
    decision_BT: np.ndarray,
    offset_B: np.ndarray,
    values_NLD: np.ndarray,
    rows: _Rows,
) -> np.ndarray:
    """Run the batch and put each kept token's activations at its item's place; returns the number of rows per item."""
    from saebias.vlm.forward import activations

    inputs = batch.inputs
    found = activations(loaded, inputs, list(work.hooks), prefix=batch.prefix)
    counts = keep_BT.sum(1)
    for item, count, offset in zip(items, counts, offset_B, strict=True):
        if count + offset > item.span:
            raise InputError(
                f"sample {item.sample['sample_id']} ({item.language}) has {count + offset} tokens where {item.span} were planned: "
                "its picture changed since prepare; run `saebias prepare --force`"
            )
    batch_rows = np.repeat(np.arange(len(items)), counts)
    place = np.concatenate([item.start + offset + np.arange(count) for item, count, offset in zip(items, counts, offset_B, strict=True)])
    for position, hook in enumerate(work.hooks):
        values_ND = found[hook].float().cpu().numpy()[keep_BT]
        _refuse_not_finite(values_ND, batch_rows, items, hook, work.cfg.model.dtype)
        values_NLD[place, position] = values_ND
    rows.add(
        place=place,
        sample=np.array([item.sample["sample_id"] for item in items], dtype=object)[batch_rows],
        language=np.array([item.language for item in items], dtype=object)[batch_rows],
        split=np.array([item.sample["split"] for item in items], dtype=object)[batch_rows],
        position=inputs.position_BT.cpu().numpy()[keep_BT],
        token_id=inputs.input_ids_BT.cpu().numpy()[keep_BT],
        kind=inputs.token_kind_BT.cpu().numpy()[keep_BT],
        decision=decision_BT[keep_BT],
    )
    return counts


def _refuse_not_finite(values_ND: np.ndarray, batch_rows: np.ndarray, items: Sequence[Item], hook: HookPoint, dtype: str) -> None:
    finite_N = np.isfinite(values_ND).all(1)
    if not finite_N.all():
        item = items[int(batch_rows[np.flatnonzero(~finite_N)[0]])]
        raise InputError(
            f"sample {item.sample['sample_id']} ({item.language}): activations at {hook} are not finite in {dtype}; set model.dtype=float32 or bfloat16"
        )


def _table(loaded: LoadedModel, work: ShardWork, rows: _Rows) -> pa.Table:
    from saebias.vlm.positions import KINDS

    if not rows.columns:
        from saebias.store.tables import arrow_schemas

        return arrow_schemas()["token_rows"].empty_table()
    order = np.argsort(rows.column("place"), kind="stable")
    token_id = rows.column("token_id")[order]
    ids, inverse = np.unique(token_id, return_inverse=True)
    texts = np.array(loaded.tokenizer.convert_ids_to_tokens(ids.tolist()), dtype=object)
    columns = {name: rows.column(name)[order] for name in ("sample", "language", "split", "position", "decision")}
    place = rows.column("place")[order]
    return pa.table(
        {
            "shard": pa.array(np.full(len(place), work.number)),
            "row": pa.array(place + work.number * work.cfg.extract.shard_rows),
            "sample_id": pa.array(columns["sample"], pa.string()),
            "language": pa.array(columns["language"], pa.string()),
            "split": pa.array(columns["split"], pa.string()),
            "position": pa.array(columns["position"]),
            "token_id": pa.array(token_id),
            "token": pa.array(texts[inverse], pa.string()),
            "token_kind": pa.array(np.array(KINDS, dtype=object)[rows.column("kind")[order]], pa.string()),
            "decision": pa.array(columns["decision"]),
        }
    )
