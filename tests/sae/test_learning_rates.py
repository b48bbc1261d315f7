"""The grid of learning rates says what it measured, and the rule is in it."""

import pytest
import torch

from saebias.sae.bench.learning_rates import Grid, Outcome, learning_rate_grid, verdict
from saebias.sae.train_config import chosen_learning_rate

from .conftest import Planted


def test_the_grid_has_the_chosen_rate_beside_the_others_and_finds_a_bad_one(planted: Planted):
    grid = Grid(rates=(1e-5, 4e-3), budgets=(10, 30), batch_size=128, seeds=(0, 1))
    found = learning_rate_grid(planted.x_ND[:4000], torch.from_numpy(planted.x_ND[-1000:]), 128, 4, grid)
    assert [(one.steps, one.rate) for one in found if one.is_chosen] == [(steps, chosen_learning_rate(steps, 128)) for steps in grid.budgets]
    for steps in grid.budgets:
        by_rate = {one.rate: one.fvu for one in found if one.steps == steps}
        assert len(by_rate) == 3
        assert by_rate[1e-5] > 1.05 * by_rate[4e-3]


def test_the_verdict_names_the_chosen_and_the_best():
    outcomes = [Outcome(100, 1e-3, False, 0.2, 0.0), Outcome(100, 6e-3, True, 0.22, 0.0)]
    assert verdict(outcomes) == "100 steps: chosen 6.00e-03 gives 0.2200, best 1.00e-03 gives 0.2000 (+10.0%)"
    assert verdict(outcomes[1:]).endswith("(+0.0%)")


@pytest.mark.parametrize(("steps", "n_latents", "rate"), [(1, 512, 6e-3), (100, 4096, 6e-3), (400, 4096, 3e-3), (10_000, 4096, 1e-3), (400, 16_384, 1.5e-3)])
def test_the_chosen_rate_falls_with_the_root_of_the_steps_and_with_the_width(steps, n_latents, rate):
    assert chosen_learning_rate(steps, n_latents) == pytest.approx(rate)
