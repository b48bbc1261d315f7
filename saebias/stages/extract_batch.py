"""Captions through the model: each picture once, what captions share once, and every kept token's activations at the place that the plan gave it.

Legend: N kept rows, L hook points, D model dimension, B rows of a pass, T columns, G rows of a prefix state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.config.schema import Config
from saebias.errors import InputError, ModelError
from saebias.stages.extract_beginnings import Beginnings, Begun
from saebias.stages.extract_passes import Places, chunks
from saebias.stages.extract_pictures import Maker, Ready
from saebias.stages.extract_plan import Item
from saebias.stages.extract_pooled import Pooled, pooled_sums
from saebias.stages.extract_prompts import Wording
from saebias.stages.extract_rows import Ids, Policy, Row, Spoken, rows_of, status_row
from saebias.stages.model_access import ClosedSet, closed_set_of
from saebias.stages.token_budget import TokenBudget

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor

    from saebias.identifiers import HookPoint
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.loading import LoadedModel
    from saebias.vlm.prompts import PromptTokens


@dataclass(frozen=True)
class Target:
    """Where a shard's activations go: the shard's rows as they will lie on disk, and the means, where they are asked for."""

    stored_NLD: np.ndarray
    pooled: Pooled | None


@dataclass
class Done:
    """What became of a batch: the rows that were kept, and a status per item."""

    rows: list[Row] = field(default_factory=list)
    status: list[dict[str, Any]] = field(default_factory=list)

    def __iadd__(self, other: Done) -> Done:
        self.rows += other.rows
        self.status += other.status
        return self


class Extractor:
    """A model at work; it remembers the tokens of prompts from batch to batch."""

    def __init__(
        self,
        cfg: Config,
        loaded: LoadedModel,
        hooks: Sequence[HookPoint],
        words: Mapping[str, Wording],
        closed_sets: Mapping[tuple[str, str], ClosedSet],
        budget: TokenBudget,
        seed: int,
    ) -> None:
        self.cfg, self.loaded, self.hooks, self.words, self.budget = cfg, loaded, list(hooks), words, budget
        image_token = loaded.adapter.image_token_id if loaded.adapter.has_image_tokens and loaded.processor is not None else None
        self.policy = Policy(cfg.extract.tokens, image_token, loaded.adapter.is_prefix_lm, seed)
        self._beginnings = Beginnings(loaded, hooks, image_token)
        self._closed_sets = closed_sets
        self._prompts: dict[tuple[str, bytes], PromptTokens] = {}
        self._commons: dict[tuple[ClosedSet, str], tuple[int, ...]] = {}
        self._trying = (0, 0)
        # One for all shards: it holds a copy of the processor, and large vocabularies take their time to copy.
        self.maker = Maker(loaded, budget.fewer_pictures)

    def run(self, ready: Ready, target: Target) -> Done:
        """Run a batch; where memory runs out, its halves. Raises InputError for activations that are not finite, and OutOfMemory when one row is too much."""
        from saebias.vlm.loading import OutOfMemory, memory_errors

        done = Done(status=[status_row(item, 0, reason) for items, reason in ready.failed for item in items])
        if not ready.groups:
            return done
        self._try(*ready.size)
        try:
            with memory_errors(f"running {len(ready.items)} captions"):
                return self._run_once(ready, target, done)
        except OutOfMemory as error:
            reason = str(error)
        # Outside the handler: the traceback holds on to the tensors of the pass that did not fit.
        return self._run_halves(ready, target, reason)

    def _try(self, n_rows: int, n_tokens: int) -> None:
        """What is run from now on, for who finds that it does not fit."""
        self._trying = n_rows, n_tokens

    def _run_halves(self, ready: Ready, target: Target, reason: str) -> Done:
        import gc

        import torch

        from saebias.vlm.loading import OutOfMemory

        gc.collect()
        if self.loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        n_rows, n_tokens = self._trying
        # One row may stand for many captions that are alike: it is a single one that does not fit only where it is the last.
        if n_rows == 1 and len(ready.items) == 1:
            sample = ready.items[0].sample.sample_id
            raise OutOfMemory(
                f"sample {sample}: a single row of {n_tokens} tokens does not fit ({reason}); free memory, use model.dtype=bfloat16, or fewer layers"
            )
        # One row that failed beside the states of many pictures may fit alone: the budget never falls below a row.
        self.budget.halve(max(n_tokens, 2 * (n_tokens // n_rows)))
        done = Done()
        for part in ready.halves():
            done += self.run(part, target)
        return done

    def _run_once(self, ready: Ready, target: Target, done: Done) -> Done:
        import torch

        from saebias.vlm.images import encode_pixels
        from saebias.vlm.loading import tells_of_memory

        try:
            # The vision tower sees each picture once, for both languages and all captions.
            features = None if ready.pixels is None else encode_pixels(self.loaded, ready.pixels)
            rows = self._rows(ready, features, done)
            for begun, part in self._beginnings.of(rows, features, self.budget.tokens, self._try):
                for chunk in chunks(part, self.budget.tokens):
                    self._try(len(chunk), sum(alike[0].length for alike in chunk))
                    self._run_pass(chunk, begun, features, ready.pictures, target)
        except RuntimeError as error:
            # The GPU's libraries raise plain RuntimeErrors with the same words.
            is_of_gpu = isinstance(error, torch.AcceleratorError) or any(sign in str(error) for sign in ("CUDA error", "cuDNN error"))
            if not is_of_gpu or tells_of_memory(error):
                raise
            samples = sorted({item.sample.sample_id for items in ready.groups for item in items})
            raise ModelError(
                f"the GPU failed while running samples {samples[0]} to {samples[-1]} ({' '.join(str(error).split())[:200]}); "
                "their shard is not done: run the same command again, with runtime.batch_size=1 to see which sample it is"
            ) from error
        done.rows += rows
        return done

    def _rows(self, ready: Ready, features: ImageFeatures | None, done: Done) -> list[Row]:
        """The rows of all items that fit their place; the others fail, each alone."""
        rows: list[Row] = []
        items = [(item, picture) for picture, items in enumerate(ready.groups) for item in items]
        for (item, picture), spoken in zip(items, self._spoken(ready, features), strict=True):
            if isinstance(spoken, str):
                done.status.append(status_row(item, 0, spoken))
                continue
            own = rows_of(item, picture, spoken, self.policy)
            count = sum(len(row.position_N) for row in own)
            if count > item.span or max(row.length for row in own) > self.loaded.adapter.max_positions:
                reason = f"it takes {count} rows where {item.span} were planned: its picture changed since prepare; run `saebias prepare --force`"
                done.status.append(status_row(item, 0, reason))
                continue
            rows += own
            done.status.append(status_row(item, count))
        return rows

    def _spoken(self, ready: Ready, features: ImageFeatures | None) -> Iterator[Spoken | str]:
        """The tokens of each item: its prompt, its caption where it is shown, and the words that F and M captions share; or why they cannot be told apart."""
        is_behind = self.cfg.extract.tokens.caption and not self.cfg.extract.caption_in_prompt
        found: list[tuple[Item, PromptTokens, tuple[int, int] | None] | str] = []
        for picture, items in enumerate(ready.groups):
            layout = b"" if features is None else features.layouts[picture]
            example = ready.pictures[picture] if features is None and ready.pictures else None if features is None else features.examples[layout]
            found += [self._prompted(item, layout, example) for item in items]
        told = [one for one in found if not isinstance(one, str)]
        behind = iter(self._behind([(item, prompt) for item, prompt, _ in told]) if is_behind else [()] * len(told))
        for one in found:
            yield one if isinstance(one, str) else Spoken(one[1], next(behind), one[2], self._common(one[0], one[1]))

    def _prompted(self, item: Item, layout: bytes, example: Picture | None) -> tuple[Item, PromptTokens, tuple[int, int] | None] | str:
        """The item with its prompt and, where the caption is in that, the positions of the caption; or why these cannot be told."""
        from saebias.vlm.prompts import prompt_tokens, prompt_with_caption

        rendered = self.words[item.language].rendered
        if self.cfg.extract.caption_in_prompt:
            try:
                return item, *prompt_with_caption(self.loaded, rendered, str(item.caption), example)
            except InputError as error:
                return str(error)
        key = (item.language, layout)
        if key not in self._prompts:
            self._prompts[key] = prompt_tokens(self.loaded, rendered, example)
        return item, self._prompts[key], None

    def _behind(self, items: Sequence[tuple[Item, PromptTokens]]) -> list[Ids]:
        """The tokens of each caption behind its prompt; all captions behind prompts that end alike go to the tokenizer at once."""
        from saebias.vlm.prompts import caption_tokens

        by_tail: dict[str, list[int]] = {}
        for number, (_, prompt) in enumerate(items):
            by_tail.setdefault(prompt.tail, []).append(number)
        found: dict[int, Ids] = {}
        for numbers in by_tail.values():
            captions = [str(items[number][0].caption) for number in numbers]
            found |= zip(numbers, caption_tokens(self.loaded, items[numbers[0]][1], captions), strict=True)
        return [found[number] for number in range(len(items))]

    def _common(self, item: Item, prompt: PromptTokens) -> tuple[int, ...] | None:
        from saebias.vlm.prompts import caption_tokens, common_prefix

        chosen = closed_set_of(self._closed_sets, item.sample.context, item.language)
        if chosen is None:
            return None
        # The boundary between prompt and caption depends on the prompt's last character alone.
        key = (chosen, prompt.tail)
        if key not in self._commons:
            tokens = caption_tokens(self.loaded, prompt, [*chosen.female, *chosen.male])
            self._commons[key] = tokens[0][: common_prefix(tokens)]
        return self._commons[key]

    def _run_pass(self, chunk: Sequence[list[Row]], begun: Begun | None, features: ImageFeatures | None, pictures: Sequence[Picture], target: Target) -> None:
        """Run one of each of the rows that are alike, and store the vectors of all."""
        from saebias.vlm.forward import activations_behind
        from saebias.vlm.inputs import token_inputs

        firsts, rows = [alike[0] for alike in chunk], [row for alike in chunk for row in alike]
        pass_row_B = np.repeat(np.arange(len(chunk)), [len(alike) for alike in chunk])
        prompts, captions = [row.prompt for row in firsts], [row.caption for row in firsts]
        taken = None if features is None else features.take([row.picture for row in firsts])
        cross = self._cross_attention(firsts, pictures) if features is None and pictures else None
        inputs = token_inputs(self.loaded, prompts, captions, taken, cross_attention=cross)
        prefix, columns, state_row_B = None, 0, np.zeros(len(rows), dtype=np.int64)
        if begun is not None:
            state_row_B = np.array([begun.state_row(row) for row in rows])
            prefix, columns = begun.state.take([begun.state_row(row) for row in firsts], inputs, with_seen=False), begun.state.columns
        places = Places.of(rows, columns, pass_row_B, state_row_B)
        wants_sums = target.pooled is not None
        seen = activations_behind(
            self.loaded,
            inputs,
            self.hooks,
            prefix,
            lambda x_BTD: (places.new(x_BTD), pooled_sums(x_BTD[pass_row_B], rows, columns) if wants_sums else None),
        )
        sums_LBKD = []
        for number, hook in enumerate(self.hooks):
            new_ND, sums_BKD = seen[hook]
            self._store(new_ND, hook, places.new_place, places.new_row, rows, target.stored_NLD[:, number])
            if begun is not None:
                old_GCD = begun.state.seen[hook]
                self._store(places.old(old_GCD), hook, places.old_place, places.old_row, rows, target.stored_NLD[:, number])
                if sums_BKD is not None:
                    sums_BKD = sums_BKD + pooled_sums(old_GCD[state_row_B], rows, 0)
            sums_LBKD.append(sums_BKD)
        if target.pooled is not None:
            target.pooled.add(rows, sums_LBKD)

    def _cross_attention(self, rows: Sequence[Row], pictures: Sequence[Picture]) -> dict[str, Tensor]:
        from saebias.vlm.cross_attention import cross_attention_tensors

        rendered = [self.words[row.item.language].rendered.replace("{caption}", row.item.caption or "") for row in rows]
        images = [pictures[row.picture] for row in rows]
        return cross_attention_tensors(self.loaded, images, rendered, [row.prompt for row in rows], [row.caption for row in rows], "right")

    def _store(self, x_ND: Tensor, hook: HookPoint, place_N: np.ndarray, row_N: np.ndarray, rows: Sequence[Row], stored_ND: np.ndarray) -> None:
        """Put vectors at their places as they will lie on disk; raises InputError naming sample, layer and number format where one is not finite."""
        import torch

        is_short = stored_ND.dtype == np.uint16
        x_ND = x_ND.to(torch.bfloat16 if is_short else torch.float32)
        # NaN and infinity do not go away in a sum, which is found far sooner than the answer for each value; that of finite ones may overflow.
        if not bool(torch.isfinite(x_ND.sum(dtype=torch.float32))) and not bool((finite_ND := torch.isfinite(x_ND)).all()):
            item = rows[int(row_N[int(torch.nonzero(~finite_ND.all(1))[0, 0])])].item
            raise InputError(
                f"sample {item.sample.sample_id} ({item.language}): activations at {hook} are not finite in {self.cfg.model.dtype} "
                f"(stored as {self.cfg.extract.dtype}); set model.dtype=float32 or bfloat16"
            )
        values = x_ND.view(torch.int16).cpu().numpy().view(np.uint16) if is_short else x_ND.cpu().numpy()
        stored_ND[place_N] = values
