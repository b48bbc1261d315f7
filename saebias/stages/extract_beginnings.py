"""What rows begin with, computed once for all that share it: the picture, the prompt, and the first words of captions.

Legend: G rows of a prefix state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saebias.stages.extract_rows import Ids, Row

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.vlm.forward import PrefixState
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.loading import LoadedModel


@dataclass(frozen=True, eq=False)
class Begun:
    """A state that rows continue, and which of its rows each continues: by picture, or by its first tokens where there is none."""

    state: PrefixState
    row_of: Mapping[Hashable, int]

    def state_row(self, row: Row) -> int:
        """The row of the state that `row` continues."""
        return self.row_of[row.ids[: self.state.columns] if self.state.inputs.features is None else row.picture]


class Beginnings:
    """Parts a batch into rows that continue one state, and computes those states."""

    def __init__(self, loaded: LoadedModel, hooks: Sequence[HookPoint], image_token_id: int | None) -> None:
        self._loaded, self._hooks, self._image_token_id = loaded, list(hooks), image_token_id

    def of(
        self, rows: Sequence[Row], features: ImageFeatures | None, budget: int, begins: Callable[[int, int], None]
    ) -> Iterator[tuple[Begun | None, list[Row]]]:
        """The rows in parts, each with the state that it continues, where there is one to share.

        A text-only state has at most `budget` tokens. `begins` is called with the rows and tokens of a state before it is computed: it may not fit into memory.
        """
        return self._by_tokens(rows, budget, begins) if self._loaded.processor is None else self._by_picture(rows, features, begins)

    def _by_tokens(self, rows: Sequence[Row], budget: int, begins: Callable[[int, int], None]) -> Iterator[tuple[Begun | None, list[Row]]]:
        from saebias.vlm.forward import text_prefix
        from saebias.vlm.inputs import token_inputs

        for language in dict.fromkeys(row.item.language for row in rows):
            part = [row for row in rows if row.item.language == language]
            columns = shared_columns([row.ids for row in part], budget)
            if columns == 0:
                yield None, part
                continue
            first = {row.ids[:columns]: row for row in reversed(part)}
            inputs = token_inputs(self._loaded, [row.prompt for row in first.values()], [row.caption for row in first.values()], None)
            begins(len(first), columns * len(first))
            state = text_prefix(self._loaded, inputs, columns, hook_points=self._hooks, activations_only=True)
            yield Begun(state, {ids: number for number, ids in enumerate(first)}), part

    def _by_picture(self, rows: Sequence[Row], features: ImageFeatures | None, begins: Callable[[int, int], None]) -> Iterator[tuple[Begun | None, list[Row]]]:
        from saebias.vlm.forward import image_prefix
        from saebias.vlm.inputs import token_inputs

        groups: dict[Ids, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.prompt.ids[: self._picture_columns(row)], []).append(row)
        alone: list[Row] = []
        for beginning, part in groups.items():
            first = {row.picture: row.prompt for row in reversed(part)}
            if not beginning or features is None or len(part) == len(first):
                alone += part
                continue
            inputs = token_inputs(self._loaded, list(first.values()), [()] * len(first), features.take(list(first)))
            begins(len(first), len(beginning) * len(first))
            state = image_prefix(self._loaded, inputs, hook_points=self._hooks, activations_only=True)
            yield Begun(state, {picture: number for number, picture in enumerate(first)}), part
        if alone:
            yield None, alone

    def _picture_columns(self, row: Row) -> int:
        """How many of a row's first tokens are computed alike for all rows that begin with them and show the same picture."""
        if self._image_token_id is None or self._loaded.adapter.is_prefix_lm:
            # Cross-attention models see the picture at every token; prefix language models read it together with the prompt behind it.
            return 0
        end = max((place + 1 for place, token in enumerate(row.prompt.ids) if token == self._image_token_id), default=0)
        return 0 if end == len(row.prompt.ids) else end


def shared_columns(rows: Sequence[Ids], budget: int) -> int:
    """After how many first tokens the rows are best cut, so that with equal beginnings run once the fewest tokens are run; 0: not at all.

    Every row keeps a token behind the cut; the different beginnings together have at most `budget` tokens.
    """
    distinct = set(rows)
    whole = sum(len(ids) for ids in distinct)
    best, fewest = 0, whole
    for columns in range(1, min(len(ids) for ids in distinct)):
        begun = columns * len({ids[:columns] for ids in distinct})
        if begun <= budget and begun + whole - columns * len(distinct) < fewest:
            best, fewest = columns, begun + whole - columns * len(distinct)
    return best
