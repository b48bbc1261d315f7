"""Laws of the tuned lens: it lowers the held-out divergence, leaves the last layer alone, and neighbours are nearest vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saebias.errors import InputError
from saebias.mechanistic.lens import LogitLens
from saebias.mechanistic.tuned_lens import TunedLensConfig, contextual_neighbours, fit_tuned_lens, neighbour_words

D, V, N = 16, 20, 600


def rotated_layers(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two layers: what the model will say, seen through a fixed shear and shift, and the last layer itself."""
    generator = torch.Generator().manual_seed(seed)
    final = 2 * torch.randn(N, D, generator=generator)
    head = torch.randn(D, V, generator=generator) / D**0.5
    shear = torch.eye(D) + 0.5 * torch.randn(D, D, generator=generator) / D**0.5
    early = (final @ shear + 1.0) + 0.1 * torch.randn(N, D, generator=generator)
    return torch.stack([early, final]), final, head


def test_a_tuned_lens_lowers_held_out_kl_and_leaves_the_last_layer_alone() -> None:
    x_LND, final, head = rotated_layers(1)
    held_out = np.arange(N) % 3 == 0
    lens = fit_tuned_lens(x_LND, final, lambda x: x @ head, held_out, seed=2)
    assert lens.kl_after_L[0] < 0.3 * lens.kl_before_L[0]
    assert lens.kl_before_L[1] == pytest.approx(0, abs=1e-6) and lens.kl_after_L[1] < 0.01
    reading = LogitLens(lambda x: x @ head).read(lens.translated(x_LND)[:, held_out], [(1,)] * 200, [(2,)] * 200, final_ND=final[held_out])
    np.testing.assert_allclose(reading.kl_to_final.mean(1), lens.kl_after_L, atol=1e-4)


def test_the_lens_depends_on_its_seed_and_data_alone() -> None:
    x_LND, final, head = rotated_layers(1)
    config, held_out = TunedLensConfig(steps=5), np.arange(N) % 3 == 0
    first, again = (fit_tuned_lens(x_LND, final, lambda x: x @ head, held_out, seed=2, config=config) for _ in range(2))
    assert torch.equal(first.A_LDD, again.A_LDD)


def test_bad_splits_and_layers_are_named() -> None:
    x_LND, final, head = rotated_layers(1)
    with pytest.raises(InputError, match="0 of 600 rows are held out"):
        fit_tuned_lens(x_LND, final, lambda x: x @ head, np.zeros(N, dtype=bool), seed=1)
    lens = fit_tuned_lens(x_LND, final, lambda x: x @ head, np.arange(N) < 100, seed=1, config=TunedLensConfig(steps=1))
    with pytest.raises(InputError, match="1 layers of activations for a lens of 2"):
        lens.translated(x_LND[:1])


def test_contextual_neighbours_are_the_nearest_vectors_of_the_bank() -> None:
    bank = torch.randn(50, D, generator=torch.Generator().manual_seed(1)) + 5
    rows, cosines = contextual_neighbours(bank[[7, 30]] + 1e-3, bank, k=3)
    assert rows[:, 0].tolist() == [7, 30] and (np.diff(cosines, axis=1) <= 0).all() and cosines[0, 0] > 0.99
    with pytest.raises(InputError, match="51 neighbours of 50"):
        contextual_neighbours(bank, bank, k=51)


def test_the_word_of_a_vector_is_the_commonest_among_its_neighbours_and_the_nearest_of_equally_common_ones() -> None:
    bank = torch.eye(6, D)[[0, 0, 0, 1, 1, 2]] + 0.01 * torch.randn(6, D, generator=torch.Generator().manual_seed(3))
    near_0, near_1 = neighbour_words(torch.eye(2, D), bank, np.array([5, 5, 8, 9, 9, 7]), k=3)
    assert (near_0.token_id, round(near_0.share, 2)) == (5, 0.67) and near_0.cosine > 0.9
    assert near_1.token_id == 9
    (alone,) = neighbour_words(bank[3:4], bank, np.array([1, 2, 3, 4, 5, 6]), k=3)
    assert alone.token_id == 4 and alone.cosine == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match="5 tokens for 6 vectors"):
        neighbour_words(bank, bank, np.arange(5))
