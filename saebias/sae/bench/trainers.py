"""The trainers of a comparison, each with the settings it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import Tensor

from saebias.errors import InputError
from saebias.report import SilentReporter
from saebias.sae.bench.rows import Sizes
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.sae.training import TrainConfig, train_sae

Train = Callable[[Iterable[Tensor], Sizes, dict[str, object]], SparseAutoencoder]


@dataclass(frozen=True)
class Contestant:
    """A library, its settings beside the defaults, and the rows a step that its training takes (None: what the comparison says)."""

    name: str
    library: str
    settings: dict[str, object] = field(default_factory=dict)
    batch_size: int = 2048


OURS = Contestant("saebias", "saebias", batch_size=TrainConfig().batch_size)
STEP = (
    OURS,
    Contestant("saebias batchtopk", "saebias", {"architecture": "batchtopk"}),
    Contestant("sparsify", "sparsify"),
    Contestant("SAELens sparse", "saelens", {"sae.use_sparse_activations": True, "sae.rescale_acts_by_decoder_norm": False}),
    Contestant("SAELens", "saelens"),
    Contestant("dictionary_learning", "dictionary_learning"),
)
"""Equal settings: the same rows, shape, k and batch; dead-latent tracking, clipping and AuxK where a library has them and as it sets them."""

QUALITY = (
    OURS,
    Contestant("sparsify signum (its default)", "sparsify", batch_size=1024),
    Contestant("sparsify Adam lr 2e-3", "sparsify", {"optimizer": "adam", "lr": 2e-3, "lr_warmup_steps": 10}, batch_size=1024),
    Contestant("SAELens default", "saelens", batch_size=4096),
    Contestant("SAELens lr 1e-3, normalised", "saelens", {"lr": 1e-3, "sae.normalize_activations": "expected_average_only_in"}, batch_size=1024),
    Contestant("dictionary_learning default", "dictionary_learning", batch_size=2048),
    Contestant("dictionary_learning lr 1e-3", "dictionary_learning", {"lr": 1e-3}, batch_size=1024),
    Contestant("dictionary_learning lr 2e-3", "dictionary_learning", {"lr": 2e-3}, batch_size=1024),
    Contestant("dictionary_learning lr 4e-3", "dictionary_learning", {"lr": 4e-3}, batch_size=1024),
)
"""Every library at its own defaults, and at a learning rate for a short budget: those of Adam are made for budgets a hundred times larger."""

SAELENS_SETTINGS: dict[str, object] = {"lr": 5e-3, "sae.normalize_activations": "expected_average_only_in"}
SYNTHETIC = (
    OURS,
    Contestant("sparsify signum (its default)", "sparsify", batch_size=1024),
    Contestant("SAELens lr 5e-3", "saelens", SAELENS_SETTINGS, batch_size=1024),
    Contestant("SAELens lr 5e-3, centred rows", "saelens", SAELENS_SETTINGS | {"centred": True}, batch_size=1024),
    Contestant("dictionary_learning lr 5e-3", "dictionary_learning", {"lr": 5e-3}, batch_size=1024),
)
"""Each at the setting that did best in a small grid (first seed, one pass: signum at its default, 1e-2 and 4e-2, Adam at learning rates of 1e-3 to 1e-2,
256 and 1,024 rows a step), where defaults are far too low for this budget. SAELens starts its bias at 0 and does not find the mean of the rows in that time
(.31 at most in the grid): it is also given rows without it."""


def trainer_of(library: str) -> Train:
    """The training function of that library; raises InputError for a name it does not know. Peers can be imported only in their own environment."""
    match library:
        case "saebias":
            return train_ours
        case "saelens":
            from saebias.sae.bench.peer_saelens import train_saelens

            return train_saelens
        case "sparsify":
            from saebias.sae.bench.peer_sparsify import train_sparsify

            return train_sparsify
        case "dictionary_learning":
            from saebias.sae.bench.peer_dictionary_learning import train_dictionary_learning

            return train_dictionary_learning
        case _:
            raise InputError(f"unknown trainer {library!r}; choose saebias, saelens, sparsify or dictionary_learning")


def train_ours(rows: Iterable[Tensor], sizes: Sizes, settings: dict[str, object]) -> SparseAutoencoder:
    """The dictionary that `train_sae` makes of the same rows; `settings` are those of `TrainConfig`, and `architecture`."""
    of_config = {name: value for name, value in settings.items() if name != "architecture"}
    spec = SaeSpec(sizes.d_model, sizes.n_latents, sizes.k, str(settings.get("architecture", "topk")), seed=sizes.seed)
    config = TrainConfig(**({"batch_size": sizes.batch_size} | of_config))  # ty: ignore[invalid-argument-type]
    return train_sae(rows, spec, config, steps=sizes.steps, reporter=SilentReporter()).sae
