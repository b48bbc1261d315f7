"""Are cheap scores of latents right? Each beside the exact effect of taking one latent out, over a shortlist that says how it was drawn.

Shapes: F latents of a dictionary, K verified latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError
from saebias.features.selection import recall_at_k, top_latents
from saebias.stats.checks import finite, same_rows
from saebias.stats.correlation import spearman


@dataclass(frozen=True)
class Shortlist:
    """The latents to verify: the best by the score that chooses, then others drawn evenly from the live rest."""

    latent_K: np.ndarray
    is_top_K: np.ndarray


def shortlist(score: ArrayLike, live: ArrayLike, n_top: int, n_drawn: int, *, seed: int) -> Shortlist:
    """The `n_top` live latents with the largest |score|, and up to `n_drawn` of the other live ones, drawn without their scores.

    The drawn ones matter: among the best alone a rank correlation says little, and a latent that the score misses could not be found. Raises InputError when
    fewer than `n_top` live latents have a score.
    """
    score_F, live_F = finite(score, "score"), np.asarray(live).astype(bool)
    same_rows(score=score_F, live=live_F)
    top = top_latents(score_F, n_top, live_F)
    rest = np.setdiff1d(np.flatnonzero(live_F), top)
    drawn = np.random.default_rng(seed).choice(rest, size=min(n_drawn, len(rest)), replace=False)
    return Shortlist(np.concatenate([top, np.sort(drawn)]), np.arange(len(top) + len(drawn)) < len(top))


@dataclass(frozen=True)
class Agreement:
    """How well one cheap score tells the size of the exact effects of K latents."""

    method: str
    rank_correlation: float
    """Spearman's, of sizes: a latent that pushes hard either way is found by either."""
    low: float
    high: float
    recall: float
    """Share of the k latents with the largest exact effect that are among the k with the largest score."""
    k: int
    n_latents: int
    note: str


def agreements(estimates: Mapping[str, ArrayLike], exact: ArrayLike, k: int) -> list[Agreement]:
    """Every score against the exact effects of the same K latents; NaN with the reason where a score cannot be ranked.

    Raises InputError when fewer than k latents were verified.
    """
    exact_K = finite(exact, "exact effects")
    if len(exact_K) < k:
        raise InputError(f"{len(exact_K)} verified latents for recall at {k}; verify more, or ask for fewer")
    found = []
    for method, values in estimates.items():
        score_K = finite(values, method)
        same_rows(exact=exact_K, score=score_K)
        ranked = spearman(np.abs(score_K), np.abs(exact_K))
        usable = min(int((score_K != 0).sum()), int((exact_K != 0).sum()))
        recall = recall_at_k(score_K, exact_K, k) if usable >= k else float("nan")
        notes = [ranked.note, "" if usable >= k else f"{usable} latents have a score and an effect: no recall at {k}"]
        found.append(Agreement(method, ranked.value, ranked.low, ranked.high, recall, k, len(exact_K), "; ".join(filter(None, notes))))
    return found
