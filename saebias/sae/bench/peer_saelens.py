"""SAELens as a trainer of the comparison: its own `SAETrainer.fit` on the rows handed in."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig  # ty: ignore[import-not-found]
from sae_lens.config import SAETrainerConfig  # ty: ignore[import-not-found]
from torch import Tensor

from saebias.sae.bench.rows import Sizes
from saebias.sae.formats_foreign import load_foreign_sae
from saebias.sae.module import SparseAutoencoder


def train_saelens(rows: Iterable[Tensor], sizes: Sizes, settings: dict[str, object]) -> SparseAutoencoder:
    """A TopK dictionary of SAELens, read back from the folder that it saves; `settings` go to its trainer config (`sae.` in front: to the SAE's config).

    With `centred` the mean of the first batch is taken off all rows, which SAELens does not do by itself, and is folded into the result.
    """
    torch.manual_seed(sizes.seed)
    stream, mean_D = iter(rows), torch.zeros(sizes.d_model)
    if settings.get("centred", False):
        first_BD = next(stream)
        mean_D = first_BD.mean(0)
        stream = (batch_BD - mean_D for batch_BD in itertools.chain([first_BD], stream))
    of_sae = {name.removeprefix("sae."): value for name, value in settings.items() if name.startswith("sae.")}
    of_trainer = {name: value for name, value in settings.items() if not name.startswith("sae.") and name != "centred"}
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=sizes.d_model, d_sae=sizes.n_latents, k=sizes.k, device="cpu", **of_sae))
    config = SAETrainerConfig(
        total_training_samples=sizes.steps * sizes.batch_size,
        train_batch_size_samples=sizes.batch_size,
        **({"lr": 3e-4, "lr_end": 3e-5, "n_batches_for_norm_estimate": 8} | of_trainer),
    )
    trained = SAETrainer(config, sae, stream).fit()
    with tempfile.TemporaryDirectory() as folder:
        trained.save_inference_model(folder)
        loaded = load_foreign_sae(Path(folder))[0]
    with torch.no_grad():
        loaded.b_dec_D.add_(mean_D)  # the encoder subtracts it too
    return loaded
