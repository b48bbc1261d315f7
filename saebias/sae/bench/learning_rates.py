"""Whether the learning rate that is chosen from the budget is near the best one: FVU over a grid of rates and step budgets, from one run.

    python -m saebias.sae.bench.learning_rates [--data planted|real] [--steps 100 400] [--rates 1e-3 2e-3 4e-3 8e-3] [--seeds 0]

`planted` are rows with known features, `real` the layer 15 of SmolLM2-135M that `python -m saebias.sae.bench quality` extracts and keeps.
Shapes: N rows, D model width.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError, SaebiasError
from saebias.report import SilentReporter
from saebias.sae.batches import shuffled_batches
from saebias.sae.bench.environment import cache_folder
from saebias.sae.bench.planted import planted_rows
from saebias.sae.module import SaeSpec
from saebias.sae.train_config import TrainConfig, chosen_learning_rate
from saebias.sae.training import train_sae

PLANTED = {"d_model": 64, "n_directions": 256, "n_active": 6}
PLANTED_SEED = 7_000_003
"""Seed of the synthetic data; those of the dictionaries are small."""
ORDER_SEED = 5_000_011
VALIDATION_ROWS = 4096


@dataclass(frozen=True)
class Grid:
    """What is tried: every rate and the chosen one at every budget of steps."""

    rates: tuple[float, ...]
    budgets: tuple[int, ...]
    batch_size: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """Means over the seeds of one training: FVU and share of dead latents on rows never trained on."""

    steps: int
    rate: float
    is_chosen: bool
    fvu: float
    dead_share: float


def learning_rate_grid(rows_ND: np.ndarray, validation_ND: Tensor, n_latents: int, k: int, grid: Grid) -> list[Outcome]:
    """What each rate of the grid, and the rate of `chosen_learning_rate`, comes to at each budget; all of a budget see the same batches.

    Budgets longer than one pass read the rows again. Raises InputError when there are fewer rows than a batch.
    """
    found = []
    for steps in grid.budgets:
        chosen = chosen_learning_rate(steps, n_latents)
        for rate in sorted({*grid.rates, chosen}):
            results = [_trained(rows_ND, validation_ND, SaeSpec(rows_ND.shape[1], n_latents, k, seed=seed), rate, steps, grid) for seed in grid.seeds]
            fvu, dead_share = np.mean(results, axis=0).tolist()
            found.append(Outcome(steps, rate, rate == chosen, fvu, dead_share))
    return found


def _trained(rows_ND: np.ndarray, validation_ND: Tensor, spec: SaeSpec, rate: float, steps: int, grid: Grid) -> tuple[float, float]:
    epochs = -(-steps * grid.batch_size // len(rows_ND))
    batches = shuffled_batches(lambda start, stop: rows_ND[start:stop], len(rows_ND), batch_size=grid.batch_size, epochs=epochs, seed=ORDER_SEED)
    config = TrainConfig(batch_size=grid.batch_size, learning_rate=rate)
    summary = train_sae(batches, spec, config, steps=steps, reporter=SilentReporter(), validation_ND=validation_ND).summary
    assert summary.validation_fvu is not None
    assert summary.validation_dead_share is not None
    return summary.validation_fvu, summary.validation_dead_share


def verdict(outcomes: Sequence[Outcome]) -> str:
    """One line on one budget: what the rule chooses, and how much FVU it leaves to the best rate tried."""
    chosen, best = next(one for one in outcomes if one.is_chosen), min(outcomes, key=lambda one: one.fvu)
    more = chosen.fvu / best.fvu - 1
    return f"{chosen.steps} steps: chosen {chosen.rate:.2e} gives {chosen.fvu:.4f}, best {best.rate:.2e} gives {best.fvu:.4f} ({more:+.1%})"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m saebias.sae.bench.learning_rates", description="FVU over learning rates and step budgets.")
    parser.add_argument("--data", choices=("planted", "real"), default="planted")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 400, 1600], help="step budgets")
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3, 4e-3, 8e-3], help="peak learning rates beside the chosen one")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--latents", type=int, help="latents; without it 8 per dimension (planted) or 4 (real)")
    parser.add_argument("--k", type=int, help="active latents; without it 6 (planted) or 32 (real)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the initial weights; figures are means over them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where the activations are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        _table(arguments)
    except SaebiasError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _table(arguments: argparse.Namespace) -> None:
    grid = Grid(tuple(arguments.rates), tuple(arguments.steps), arguments.batch_size, tuple(arguments.seeds))
    rows_ND, validation_ND = _real(arguments.cache) if arguments.data == "real" else _planted(max(grid.budgets) * grid.batch_size)
    n_latents = arguments.latents or (4 if arguments.data == "real" else 8) * rows_ND.shape[1]
    k = arguments.k or (32 if arguments.data == "real" else PLANTED["n_active"])
    sizes = f"{len(rows_ND):,} rows of width {rows_ND.shape[1]}, {n_latents:,} latents, k {k}"
    print(f"{arguments.data}: {sizes}, {grid.batch_size} rows a step, seeds {', '.join(map(str, grid.seeds))}")
    print(f"{'steps':>6} {'rate':>9} {'FVU':>7} {'dead':>6}", flush=True)
    for steps in grid.budgets:
        outcomes = learning_rate_grid(rows_ND, validation_ND, n_latents, k, Grid(grid.rates, (steps,), grid.batch_size, grid.seeds))
        for one in outcomes:
            print(f"{one.steps:6} {one.rate:9.2e} {one.fvu:7.4f} {one.dead_share:6.1%}{'  chosen' if one.is_chosen else ''}")
        print(verdict(outcomes), flush=True)


def _planted(n_rows: int) -> tuple[np.ndarray, Tensor]:
    x_ND = planted_rows(min(n_rows, 204_800) + VALIDATION_ROWS, **PLANTED, seed=PLANTED_SEED).x_ND
    return x_ND[VALIDATION_ROWS:], torch.from_numpy(x_ND[:VALIDATION_ROWS])


def _real(cache: Path) -> tuple[np.ndarray, Tensor]:
    folder = cache / "smollm2-135m-layer15"
    train, validation = folder / "train.npy", folder / "validation.npy"
    if not (train.is_file() and validation.is_file()):
        raise InputError(f"{folder} holds no activations yet; run `python -m saebias.sae.bench quality --only saebias` once, which extracts them")
    return np.load(train, mmap_mode="r"), torch.from_numpy(np.load(validation)[:VALIDATION_ROWS].astype(np.float32))


if __name__ == "__main__":
    sys.exit(main())
