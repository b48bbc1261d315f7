"""Batches of pictures with their captions, decoded and made ready by a thread while the model is busy with the batch before."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from saebias.stages.extract_plan import Item
from saebias.stages.model_access import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from saebias.vlm.images import Pixels
    from saebias.vlm.loading import LoadedModel

Thing = TypeVar("Thing")
Batch = list[list[Item]]
"""Items by picture."""

AHEAD = 2
"""Batches made ready in advance: more only take memory."""
TEXT_PASSES = 4
"""Passes' worth of captions in a batch without pictures: among more captions more begin alike, and what they begin with is run once."""


@dataclass(frozen=True, eq=False)
class Ready:
    """A batch: per picture (if the model reads any) its items; `pixels` for models with a vision tower of their own; what failed, with the reason."""

    groups: list[list[Item]]
    pictures: list[Picture]
    pixels: Pixels | None
    failed: list[tuple[list[Item], str]]
    maker: Maker

    @property
    def size(self) -> tuple[int, int]:
        """(rows, tokens) of the longest captions of its pictures, or of all captions where there are no pictures."""
        longest = [max(item.n_tokens for item in items) for items in self.groups] if self.pictures else [item.n_tokens for item in self.items]
        return len(longest), sum(longest)

    @property
    def items(self) -> list[Item]:
        """The captions that are run."""
        return [item for items in self.groups for item in items]

    def halves(self) -> Iterator[Ready]:
        """The batch as two, one after the other; one picture's captions, or those of a model without pictures, are parted too."""
        if len(self.groups) > 1:
            middle = len(self.groups) // 2
            cuts = [(self.groups[:middle], self.pictures[:middle]), (self.groups[middle:], self.pictures[middle:])]
        else:
            (items,) = self.groups
            middle = max(1, len(items) // 2)
            cuts = [([part], self.pictures) for part in (items[:middle], items[middle:]) if part]
        for number, (groups, pictures) in enumerate(cuts):
            yield Ready(groups, pictures, self.maker.pixels(pictures), self.failed if number == 0 else [], self.maker)


class Maker:
    """Makes batches ready. It has a copy of the processor, because tokenizers must not be used by two threads at a time."""

    def __init__(self, loaded: LoadedModel, say_halved: Callable[[int], None]) -> None:
        """`say_halved` is called with a number of pictures that memory had no room for at a time."""
        self._say_halved = say_halved
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saebias-pictures")
        self._expected: tuple[Batch, Future[Ready]] | None = None
        self._reads_pictures = loaded.processor is not None
        processor = copy.deepcopy(loaded.processor)
        self._loaded = replace(loaded, processor=processor, tokenizer=loaded.tokenizer if processor is None else processor.tokenizer)

    def batches(self, batches: Sequence[Batch], expected: Batch | None = None) -> Generator[Ready]:
        """The batches one by one, made ready in advance; behind the last the one that is `expected` to begin the next call, so that it need not wait.

        A batch whose pictures memory has no room for comes as two; raises OutOfMemory where it is a single picture. Close it where not all are wanted.
        """
        wanted, waiting, ahead = deque(batches), deque[tuple[Batch, Future[Ready]]](), AHEAD
        begun, self._expected = self._expected, None
        if begun is not None and wanted and begun[0] == wanted[0]:
            waiting.append(begun)
            wanted.popleft()
        elif begun is not None:
            begun[1].cancel()
        try:
            while wanted or waiting:
                while wanted and len(waiting) <= ahead:
                    waiting.append(self._begun(wanted.popleft()))
                if not wanted and expected is not None and self._expected is None:
                    self._expected = self._begun(expected)
                batch, making = waiting.popleft()
                ready = self._result(batch, making)
                if ready is None:
                    ahead, middle = 0, len(batch) // 2
                    wanted.extendleft((batch[middle:], batch[:middle]))
                    continue
                yield ready
        except BaseException:
            # An error, Ctrl-C, or closed by who met one. The program ends when the thread does: what it has not begun is not begun any more.
            for _, making in [*waiting, *([] if self._expected is None else [self._expected])]:
                making.cancel()
            self._expected = None
            raise

    def _begun(self, batch: Batch) -> tuple[Batch, Future[Ready]]:
        return batch, self._thread.submit(self.make, batch)

    def _result(self, batch: Batch, making: Future[Ready]) -> Ready | None:
        """What was made, or None for several pictures that did not fit into memory together."""
        from saebias.vlm.loading import OutOfMemory

        try:
            return making.result()
        except OutOfMemory as error:
            if len(batch) == 1:
                raise OutOfMemory(f"sample {batch[0][0].sample.sample_id}: its picture does not fit into memory ({error})") from None
        self._say_halved(len(batch))
        return None

    def make(self, batch: Batch) -> Ready:
        """Decode and prepare the pictures of a batch; one that cannot be used fails with its captions, alone. Raises OutOfMemory."""
        from saebias.vlm.loading import memory_errors

        with memory_errors(f"making {len(batch)} pictures ready"):
            return self._make(batch)

    def _make(self, batch: Batch) -> Ready:
        usable, failed = [], [([item], item.reason) for items in batch for item in items if item.reason is not None]
        pictures: list[Picture] = []
        for items in ([item for item in items if item.reason is None] for items in batch):
            if not items:
                continue
            if self._reads_pictures:
                picture = open_picture(items[0].sample.image_path, items[0].sample.image_id)
                if isinstance(picture, str):
                    failed.append((items, picture))
                    continue
                pictures.append(picture)
            usable.append(items)
        return Ready(usable, pictures, self._pixels(pictures), failed, self)

    def pixels(self, pictures: Sequence[Picture]) -> Pixels | None:
        """The pictures as tensors of the vision tower, where the model has image tokens; made by the thread, which may be at the next batch just now."""
        from saebias.vlm.loading import memory_errors

        with memory_errors(f"making {len(pictures)} pictures ready"):
            return self._thread.submit(self._pixels, pictures).result()

    def _pixels(self, pictures: Sequence[Picture]) -> Pixels | None:
        from saebias.vlm.images import process_images

        return process_images(self._loaded, pictures) if pictures and self._loaded.adapter.has_image_tokens else None


def picture_batches(items: Sequence[Item], *, budget: int, batch_size: int, by_picture: bool) -> list[Batch]:
    """The items of a shard in batches: all captions of a picture together, pictures of one size and captions of like length beside each other.

    A batch has at most `batch_size` pictures, and at most `budget` tokens where each has one row; without pictures a batch is one group of several passes.
    """
    if not by_picture:
        ordered = sorted(items, key=lambda item: item.n_tokens)
        return [[group] for group in _cut(ordered, [item.n_tokens for item in ordered], TEXT_PASSES * budget, len(items))]
    by_path: dict[str, list[Item]] = {}
    for item in items:
        by_path.setdefault(item.sample.image_path, []).append(item)
    groups = sorted(by_path.values(), key=lambda group: (group[0].sample.size, max(item.n_tokens for item in group)))
    return _cut(groups, [max(item.n_tokens for item in group) for group in groups], budget, batch_size)


def _cut(things: Sequence[Thing], lengths: Sequence[int], budget: int, most: int) -> list[list[Thing]]:
    parts: list[list[Thing]] = []
    longest = 0
    for thing, length in zip(things, lengths, strict=True):
        longest = max(longest, length)
        if not parts or len(parts[-1]) >= most or (len(parts[-1]) + 1) * longest > budget:
            parts.append([])
            longest = length
        parts[-1].append(thing)
    return parts
