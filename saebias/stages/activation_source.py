"""What the mechanistic stages read: activations with their row index and the samples behind them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import InputError
from saebias.pipeline.stage import StageContext
from saebias.stages.behavior_metrics import none_if_nan

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.stages.token_index import TokenIndex
    from saebias.store.arrays import ActivationArray


@dataclass(frozen=True)
class Source:
    """The activations, their row index and the samples, with the residual-stream hook points by layer."""

    array: ActivationArray
    index: TokenIndex
    samples: dict[str, dict[str, Any]]
    hooks: list[HookPoint]

    @cached_property
    def row_gender(self) -> np.ndarray:
        """Visual gender of every activation row, found once."""
        return self.gender(self.index.sample_id)

    def gender(self, sample_ids: np.ndarray) -> np.ndarray:
        """Visual gender per row, `-` where nobody said."""
        return np.array([self.samples[sample_id]["visual_gender"] or "-" for sample_id in sample_ids])

    def column(self, sample_ids: np.ndarray, name: str) -> np.ndarray:
        """A column of the samples per row; an empty context is the picture group itself."""
        return np.array([self.samples[sample_id][name] or self.samples[sample_id]["cluster_id"] for sample_id in sample_ids])

    def types(self, sample_ids: np.ndarray) -> np.ndarray:
        """What the control task gives one random label to: everything known of the picture but the gender.

        A context alone is too coarse: where the decision token is the profession's own word, any function of the context can be read off it, the control
        task is solved, and selectivity says nothing about gender.
        """
        rows = [self.samples[sample_id] for sample_id in sample_ids]
        return np.array(["|".join(str(row[name]) for name in ("context", "style", "skin_tone") if row[name]) or row["cluster_id"] for row in rows])


def open_source(ctx: StageContext) -> Source:
    """The extract run that this stage stands on."""
    from saebias.stages.threads import use_threads
    from saebias.stages.token_index import token_index
    from saebias.stages.train import activations_path
    from saebias.store.arrays import ActivationArray

    use_threads(ctx.cfg)
    array = ActivationArray(activations_path(ctx))
    hooks = sorted(hook for hook in array.hooks if hook.site == "resid_post")
    if not hooks:
        raise InputError("mechanistic: no residual-stream activations were kept; put resid_post into extract.sites")
    return Source(array, token_index(ctx), {row["sample_id"]: row for row in ctx.table("samples").to_pylist()}, hooks)


def say_caption_is_read(ctx: StageContext, part: TokenIndex, what: str) -> bool:
    """Whether rows have seen words of their own captions (the prompt shows them); if so the report says that `what` is no evidence about the picture."""
    is_read = bool(part.reads_caption.any())
    if is_read:
        share = float(part.reads_caption.mean())
        ctx.reporter.warn(
            f"{what} READS THE CAPTION in {share:.0%} of its rows, because extract.caption_in_prompt=true: no evidence about the picture", alarm=True
        )
    return is_read


def nan_to_null(row: dict[str, Any]) -> dict[str, Any]:
    """A row with NaN as null, and an empty note as null."""
    return {name: none_if_nan(value) if isinstance(value, float) else value or None if name == "note" else value for name, value in row.items()}
