"""How a dictionary is trained: the settings, and the learning rate that is chosen where none is given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """How a dictionary is trained; what it is stands in `SaeSpec`."""

    batch_size: int = 128
    """Rows a step; the maker of the batches uses it too. Few rows make many steps: with the budget of `chosen_learning_rate` FVU was .188 at 1024 rows,
    .184 at 512, .181 at 256 and .179 at 128 (1 % dead), while a row costs a fifth to a half more time with each halving. The stage
    `train`, which makes a dozen dictionaries and more, takes `train.batch_size` instead, 512 by default."""
    learning_rate: float | None = None
    """Peak learning rate of Adam; None takes `chosen_learning_rate(steps, n_latents)`."""
    warmup_share: float = 0.05
    """Share of the steps over which the learning rate rises from 0."""
    decay_share: float = 0.3
    """Share of the steps, at the end, over which the learning rate falls to 0 in a line."""
    clip_factor: float = 3.0
    """A gradient longer than this many times its running mean norm is shortened to that; relative, because Adam does not feel the scale of the loss."""
    aux_coefficient: float = 1 / 8
    """Weight of the AuxK loss; 0 turns it off."""
    aux_k: int | None = None
    """Dead latents a row that take part in AuxK; None takes half the model width."""
    dead_after_tokens: int = 8192
    """A latent counts as dead when it was not active for this many rows. With 20,480 and a coefficient of 1/32 7 % of latents ended dead, with these 1 %."""
    revive_every: int | None = None
    """Steps between two times that a few dead latents start anew at what is explained worst (`revival`); 0 never; None as the architecture does."""
    init_from_rows: float = 0.7
    """Share of an initial decoder direction that is a row of the data (the rest is random); 0 starts from random directions. See `initial_weights`."""
    init_part: tuple[int, int] = (0, 1)
    """Which part of the rows that is, (number, of how many). Dictionaries that are to tell stable latents from chance take different ones: two that started
    from the same rows of Gaussian noise found 44 % of their latents again in each other, with different parts none."""
    outlier_ratio: float = 10.0
    """Rows this many times farther from the mean than usual are left out of training (and counted): a handful of them can be most of the variance."""
    sparsity_coefficient: float | None = None
    """Weight of the sparsity penalty of relu, gated (summed codes or gates) and jumprelu (L0) beside the mean squared error of inputs of variance 1; None
    steers it so that k latents a row are active."""
    bandwidth: float = 0.1
    """Width of the rectangle through which thresholds of jumprelu learn, where a random latent's pre-activations have standard deviation of about 1."""
    history_rows: int = 50
    """About how many rows of history a training leaves."""
    beta1: float = 0.9
    beta2: float = 0.999
    kernels: str = "auto"
    """`numba` (CPU), `triton` (CUDA), `torch`, or `auto`: the compiled ones of the device where they can be had. Changes numbers by rounding only."""
    device: str = "cpu"
    """Where weights and batches lie while it learns: cpu, cuda, cuda:N or mps. The finished dictionary, and all that is saved, is on the CPU."""


def chosen_learning_rate(steps: int, n_latents: int) -> float:
    """Peak learning rate of Adam for a budget of `steps`: 6e-3 for a hundred steps, falling with the root of the steps to 1e-3, less for wide dictionaries.

    Validation FVU on layer 15 of SmolLM2-135M, 204,800 rows once, 4,608 latents, k = 32, random start, at 2e-3 / 4e-3 / 8e-3: 100 steps of 2048 rows
    .243 / .219 / .210, 200 steps of 1024 rows .220 / .204 / .209. Usual defaults (1e-4 to 5e-4) are made for budgets a hundred times larger.
    `python -m saebias.sae.bench.learning_rates` prints such a grid with the chosen rate in it.
    """
    return min(6e-3, max(1e-3, 6e-3 * (100 / max(steps, 1)) ** 0.5)) * min(1.0, (4096 / n_latents) ** 0.5)
