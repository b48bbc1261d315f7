"""Choosing latents, and refusing to report on what was used to choose. Shapes: F latents."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError
from saebias.stats.checks import same_rows
from saebias.stats.correlation import spearman
from saebias.stats.resampling import Estimate


def top_latents(score: ArrayLike, k: int, live: ArrayLike | None = None) -> np.ndarray:
    """The k live latents with the largest |score|, best first (ties by index).

    Raises InputError when fewer than k live latents have a score that is finite and not 0: a set smaller than it says would be compared with larger ones.
    """
    score_F = np.asarray(score, dtype=np.float64)
    live_F = np.ones(len(score_F), dtype=bool) if live is None else np.asarray(live).astype(bool)
    same_rows(score=score_F, live=live_F)
    if k < 1:
        raise InputError(f"k = {k} latents; ask for at least one")
    usable_F = live_F & np.isfinite(score_F) & (score_F != 0)
    usable = int(usable_F.sum())
    if usable < k:
        raise InputError(
            f"asked for {k} latents, but only {usable} of {len(score_F)} are live with a score; lower k to {usable} or train with fewer dead latents"
        )
    strength_F = np.where(usable_F, np.abs(score_F), -1.0)
    return np.argsort(-strength_F, kind="stable")[:k]


def assert_disjoint(select_ids: Iterable, report_ids: Iterable, what: str = "images") -> None:
    """Raise InputError when an image (or concept) used to select is also reported on: such numbers are in-sample and look better than they are."""
    shared = sorted({str(name) for name in select_ids} & {str(name) for name in report_ids})
    if shared:
        raise InputError(f"{len(shared)} {what} are in both the select and the report split (first: {shared[0]}); report on {what} that selected nothing")


def recall_at_k(estimate: ArrayLike, exact: ArrayLike, k: int) -> float:
    """Share of the k latents with the largest |exact effect| that are among the k with the largest |estimate|."""
    same_rows(estimate=np.asarray(estimate), exact=np.asarray(exact))
    return len(set(top_latents(estimate, k)) & set(top_latents(exact, k))) / k


def rank_agreement(estimate: ArrayLike, exact: ArrayLike) -> Estimate:
    """Spearman correlation of estimated with exact effects over latents, with its interval over latents."""
    return spearman(estimate, exact)
