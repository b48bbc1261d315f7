"""Laws of the benchmark's own measuring tools: the clock, the rows, the planted features, and what each budget hands out."""

import itertools

import numpy as np
import torch

from saebias.report import SilentReporter
from saebias.sae.bench.planted import planted_rows, recovery
from saebias.sae.bench.rows import ClockedRows, ShuffledRows, Sizes
from saebias.sae.bench.trainers import OURS, train_ours
from saebias.sae.module import SaeSpec
from saebias.sae.training import TrainConfig, train_sae


def test_every_row_comes_once_a_pass_and_the_order_is_that_of_the_seed() -> None:
    x_ND = np.arange(40, dtype=np.float32)[:, None]
    one, again, other = (torch.cat(list(itertools.islice(ShuffledRows(x_ND, 8, seed), 10))).flatten() for seed in (1, 1, 2))
    for passed in one.split(40):
        assert passed.sort().values.tolist() == x_ND.flatten().tolist()
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_clock_notes_what_happens_between_two_batches_and_not_its_own_product() -> None:
    clocked = ClockedRows(ShuffledRows(np.ones((64, 32), np.float32), 16, 0), n_latents=4096)
    for _ in itertools.islice(clocked, 4):
        sum(range(300_000))
    assert len(clocked.step_seconds) == 3
    assert len(clocked.product_seconds) == 4
    assert min(clocked.step_seconds) > 1e-4


def test_a_dictionary_of_the_planted_directions_recovers_all_and_a_random_one_none() -> None:
    planted = planted_rows(500, 64, 100, 5, seed=3)
    more_FD = np.random.default_rng(4).standard_normal((150, 64)).astype(np.float32)
    mixed_FD = np.concatenate([more_FD, 3 * planted.directions_GD])
    assert recovery(mixed_FD, planted.directions_GD).mcc > 0.999
    assert recovery(mixed_FD, planted.directions_GD).recovered_share == 1
    assert recovery(more_FD, planted.directions_GD).recovered_share == 0


def test_planted_rows_lie_in_the_span_of_the_directions_up_to_their_noise() -> None:
    planted = planted_rows(3000, 64, 30, 5, seed=3)
    assert np.allclose(np.linalg.norm(planted.directions_GD, axis=1), 1, atol=1e-5)
    centred_ND = planted.x_ND - planted.x_ND.mean(0)
    basis_DG, _ = np.linalg.qr(planted.directions_GD.T)
    beside_ND = centred_ND - centred_ND @ basis_DG @ basis_DG.T
    assert 0.017 < np.sqrt((beside_ND**2).sum(1).mean() / (64 - 30)) < 0.023
    assert centred_ND.std() > 10 * 0.02


def test_the_benchmark_trains_what_train_sae_trains() -> None:
    rows = ShuffledRows(planted_rows(2000, 16, 30, 3, seed=5).x_ND, 64, 6)
    sizes = Sizes(16, 40, 3, 64, 20, seed=1)
    direct = train_sae(rows, SaeSpec(16, 40, 3, seed=1), TrainConfig(batch_size=64), steps=20, reporter=SilentReporter()).sae
    assert all(torch.equal(a, b) for a, b in zip(train_ours(rows, sizes, OURS.settings).parameters(), direct.parameters(), strict=True))
