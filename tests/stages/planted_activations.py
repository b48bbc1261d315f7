"""A small extract run on disk whose activations are planted, and a context to train on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from saebias.config.load import load_config
from saebias.identifiers import HookPoint
from saebias.pipeline.stage import StageContext
from saebias.report import Reporter, SilentReporter
from saebias.stages.train import TRAIN
from saebias.store.arrays import create_activations, write_shard
from saebias.store.parts import UnitWriter

HOOKS = [HookPoint(0), HookPoint(3)]
SHARD_ROWS = 1024
D_MODEL = 16


def planted_values(n_rows: int, seed: int = 20_261_123) -> np.ndarray:
    """Sparse sums of known directions [N, L, D], with noise."""
    rng = np.random.default_rng(seed)
    directions_GD = rng.standard_normal((40, D_MODEL))
    codes_NLG = (rng.random((n_rows, len(HOOKS), 40)) < 0.05) * rng.uniform(0.5, 1.5, (n_rows, len(HOOKS), 40))
    return (codes_NLG @ directions_GD + 0.05 * rng.standard_normal((n_rows, len(HOOKS), D_MODEL)) + 1.0).astype(np.float32)


def write_extract(folder: Path, values_NLD: np.ndarray) -> Path:
    """An extract run of these activations: sequences of 16 tokens in both languages, two thirds of them in the split sae, the rest in select."""
    path = folder / "files" / "activations.zarr"
    create_activations(path, HOOKS, len(values_NLD), D_MODEL, dtype="float32", shard_rows=SHARD_ROWS)
    for shard in range(-(-len(values_NLD) // SHARD_ROWS)):
        write_shard(path, shard, values_NLD[shard * SHARD_ROWS : (shard + 1) * SHARD_ROWS])
    row = np.arange(len(values_NLD))
    sequence, position = row // 16, row % 16
    writer = UnitWriter(folder, "all", ("token_rows",))
    columns = {
        "shard": row // SHARD_ROWS,
        "row": row,
        "sample_id": [f"s{number:05d}" for number in sequence],
        "language": np.where(sequence % 2 == 0, "en", "ar").tolist(),
        "split": np.where(sequence % 3 < 2, "sae", "select").tolist(),
        "position": position,
        "token_id": position,
        "token": ["x"] * len(row),
        "token_kind": np.select([position < 8, position < 11], ["image", "prompt"], "caption").tolist(),
        "decision": position == 12,
        "last": position == 10,
        "reads_caption": position > 12,
        "prompt_id": ["p"] * len(row),
    }
    writer.rows("token_rows", pa.table(columns))
    writer.finish()
    return folder


def train_context(extract: Path, folder: Path, *overrides: str, reporter: Reporter | None = None) -> StageContext:
    """The context of a training of a few dozen steps on that extract run."""
    small = ["train.k=4", "train.expansion=4", "train.batch_size=64", "train.max_rows=1600", "train.epochs=2", "train.seeds=[7,8]", "train.analysis_layer=3"]
    cfg = load_config(None, [*small, "train.checkpoint_every=10", *overrides])
    parents, owners = {"extract": extract}, {"token_rows": "extract"}
    return StageContext(cfg, TRAIN, "train-000000000000", folder, parents, owners, reporter or SilentReporter())
