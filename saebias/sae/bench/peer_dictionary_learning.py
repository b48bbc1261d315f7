"""dictionary_learning as a trainer of the comparison: its own `trainSAE` on the rows handed in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from dictionary_learning.trainers import TopKTrainer  # ty: ignore[import-not-found]
from dictionary_learning.training import trainSAE  # ty: ignore[import-not-found]
from torch import Tensor

from saebias.sae.bench.rows import Sizes
from saebias.sae.formats_foreign import load_foreign_sae
from saebias.sae.module import SparseAutoencoder


def train_dictionary_learning(rows: Iterable[Tensor], sizes: Sizes, settings: dict[str, object]) -> SparseAutoencoder:
    """A TopK dictionary of dictionary_learning, read back from the folder that it saves; `settings` go to its trainer.

    Its warm-up of 1000 steps is longer than a short budget and would be refused: it becomes a tenth of the steps.
    """
    config = {
        "trainer": TopKTrainer,
        "steps": sizes.steps,
        "activation_dim": sizes.d_model,
        "dict_size": sizes.n_latents,
        "k": sizes.k,
        "layer": 0,
        "lm_name": "rows",
        "seed": sizes.seed,
        "device": "cpu",
        "warmup_steps": min(1000, sizes.steps // 10),
        **settings,
    }
    with tempfile.TemporaryDirectory() as folder:
        trainSAE(rows, [config], sizes.steps, save_dir=folder, device="cpu", normalize_activations=True)
        return load_foreign_sae(Path(folder) / "trainer_0")[0]
