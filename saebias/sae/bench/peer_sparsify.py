"""sparsify as a trainer of the comparison: its own `Trainer.fit`, with a "model" whose one layer gives the rows handed in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from sparsify import SaeConfig, TrainConfig, Trainer  # ty: ignore[import-not-found]
from torch import Tensor, nn

from saebias.sae.bench.rows import Sizes
from saebias.sae.formats_foreign import load_foreign_sae
from saebias.sae.module import SparseAutoencoder


class _NextRows(nn.Module):
    """A decoder layer that gives the next batch of rows instead of computing something."""

    def __init__(self, rows: Iterator[Tensor], d_model: int) -> None:
        super().__init__()
        self.rows, self.d_model = rows, d_model

    def forward(self, tokens: Tensor) -> Tensor:
        """The next rows [1, B, D]; for the one token that asks for the width, zeros."""
        return torch.zeros(1, 1, self.d_model) if tokens.shape[1] == 1 else next(self.rows)[None]


class _Model(nn.Module):
    """What sparsify needs of a language model: one layer, a device, inputs to try."""

    def __init__(self, rows: Iterator[Tensor], d_model: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_NextRows(rows, d_model)])
        self.config = SimpleNamespace(num_hidden_layers=1)
        self.device = torch.device("cpu")
        self.dummy_inputs = {"tokens": torch.zeros(1, 1, dtype=torch.int64)}

    @property
    def base_model(self) -> _Model:
        """The model itself: it has no head."""
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """What the layer gives."""
        return self.layers[0](tokens)


class _Steps(torch.utils.data.Dataset):
    """As many sequences of as many tokens as there are steps and rows in one; the tokens mean nothing."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return self.sizes.steps

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= len(self):
            raise IndexError(index)
        return {"input_ids": torch.ones(self.sizes.batch_size, dtype=torch.int64)}


def train_sparsify(rows: Iterable[Tensor], sizes: Sizes, settings: dict[str, object]) -> SparseAutoencoder:
    """A TopK dictionary of sparsify, read back from the folder that it saves; `settings` go to its training config."""
    sae = SaeConfig(num_latents=sizes.n_latents, k=sizes.k)
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            sae, batch_size=1, layers=[0], init_seeds=[sizes.seed], log_to_wandb=False, save_every=10**9, save_dir=folder, run_name="run", **settings
        )
        Trainer(config, _Steps(sizes), _Model(iter(rows), sizes.d_model)).fit()
        return load_foreign_sae(Path(folder) / "run" / "layers.0")[0]
