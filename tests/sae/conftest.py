"""Planted sparse dictionaries."""

from dataclasses import dataclass

import numpy as np
import pytest

DATA_SEED = 20_261_122


@dataclass(frozen=True)
class Planted:
    """Rows that are sparse sums of known directions, away from the origin and not of unit scale, as activations are."""

    x_ND: np.ndarray
    directions_GD: np.ndarray


def planted_rows(n_rows: int, d_model: int, n_directions: int, active: float, seed: int = DATA_SEED) -> Planted:
    rng = np.random.default_rng(seed)
    directions_GD = rng.standard_normal((n_directions, d_model))
    directions_GD /= np.linalg.norm(directions_GD, axis=1, keepdims=True)
    codes_NG = (rng.random((n_rows, n_directions)) < active / n_directions) * rng.uniform(0.5, 1.5, (n_rows, n_directions))
    mean_D = 2 * rng.standard_normal(d_model)
    noise_ND = 0.01 * rng.standard_normal((n_rows, d_model))
    return Planted((3 * (codes_NG @ directions_GD + noise_ND) + mean_D).astype(np.float32), directions_GD.astype(np.float32))


@pytest.fixture(scope="session")
def planted() -> Planted:
    return planted_rows(n_rows=24_000, d_model=32, n_directions=64, active=3)
