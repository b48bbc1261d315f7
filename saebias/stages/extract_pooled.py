"""Means over a sample's image, prompt and caption tokens, on request: for readers that want one vector per picture. Dictionaries never see them.

Legend: B rows of a pass, T columns, K kinds, L hook points, D model dimension, R rows of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import StoreError
from saebias.stages.extract_rows import Row

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("image", "prompt", "caption")


def _kind_mask(rows: Sequence[Row], start: int, stop: int) -> np.ndarray:
    """Whether a position from `start` on is of each kind, float32 (B, T, K); rows that only hold a decision are of none."""
    from saebias.vlm import positions

    mask_BTK = np.zeros((len(rows), stop - start, len(KINDS)), dtype=np.float32)
    for number, row in enumerate(rows):
        # Words that stand for no caption of the sample's own (its decision) are not averaged.
        kind_P = row.kind_P[: len(row.prompt.ids)] if not row.is_shown else row.kind_P
        part = kind_P[start:stop]
        if row.is_main:
            mask_BTK[number, : len(part)] = part[:, None] == np.array([positions.KINDS.index(kind) for kind in KINDS])
    return mask_BTK


def pooled_sums(x_BTD: Tensor, rows: Sequence[Row], start: int) -> Tensor:
    """Sums over the tokens of each kind, of columns that hold positions `start` and on, float32 (B, K, D)."""
    import torch

    mask_BTK = torch.from_numpy(_kind_mask(rows, start, start + x_BTD.shape[1])).to(x_BTD.device)
    return torch.einsum("btk,btd->bkd", mask_BTK, x_BTD.float())


class Pooled:
    """The means of a shard while it grows; an item that is run again replaces what it had."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}

    def add(self, rows: Sequence[Row], sums_LBKD: Sequence[Tensor]) -> None:
        """Take in the sums of a pass, one (B, K, D) per hook point, over all positions of its rows."""
        import torch

        # Each from where its layer is: a model may be spread over several devices.
        stacked = torch.stack([sums_BKD.cpu() for sums_BKD in sums_LBKD], dim=1).numpy()
        for number, row in enumerate(rows):
            if row.is_main:
                count_K = _kind_mask([row], 0, row.length)[0].sum(0)
                self._found[row.item.sample.sample_id, row.item.language] = stacked[number].transpose(1, 0, 2), count_K

    def write(self, path: Path, shard: int) -> list[dict[str, Any]]:
        """Write the means (R, L, D) as float32 safetensors; returns the rows of `pooled_rows` that say which is which. Raises StoreError for a full disk."""
        from safetensors.numpy import save

        from saebias.store.files import replacing

        index, means = [], []
        for (sample_id, language), (sums_KLD, count_K) in sorted(self._found.items()):
            for kind, sum_LD, count in zip(KINDS, sums_KLD, count_K, strict=True):
                if count > 0:
                    index.append({"shard": shard, "row": len(means), "sample_id": sample_id, "language": language, "token_kind": kind, "n_tokens": int(count)})
                    means.append(sum_LD / count)
        with replacing(path) as temporary:
            temporary.write_bytes(save({"pooled": np.stack(means).astype(np.float32) if means else np.zeros((0, 0, 0), np.float32)}))
        return index


def read_pooled(run_folder: Path, shard: int) -> np.ndarray:
    """The means of a shard, float32 (R, L, D), in order of `pooled_rows.row` and of the run's hook points; raises StoreError where none were asked for."""
    from safetensors.numpy import load_file

    path = pooled_path(run_folder, shard)
    if not path.exists():
        raise StoreError(f"{path}: this run kept no means; set extract.pooled=true and run `saebias extract`")
    return load_file(path)["pooled"]


def pooled_path(run_folder: Path, shard: int) -> Path:
    """Where the means of a shard lie."""
    return run_folder / "files" / "pooled" / f"shard-{shard:05d}.safetensors"
