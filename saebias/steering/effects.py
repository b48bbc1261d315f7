"""Effects of the arms as table rows: values with image-cluster intervals, and permutation p against matched random sets.

Every arm sees the same bootstrap draws, so arms can be compared draw by draw. Shapes: N images (one language), A arms, S random sets, R draws, G clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from saebias.errors import InputError
from saebias.stats.checks import cluster_index, finite
from saebias.stats.effects import permutation_p
from saebias.stats.resampling import bootstrap_counts, cluster_sums, interval_of_draws
from saebias.steering.arms import ArmLabel
from saebias.steering.outcomes import Cells, ClosedSet, Images, clear_shares, context_means, defined_mean, spread_variance

AMBIGUOUS_METRICS = ("stereotype_spread", "masculine_default", "ambiguous_neutral")
CLEAR_METRICS = ("clear_accuracy", "clear_wrong", "clear_neutral", "clear_harm")
NO_NEUTRAL = "no neutral continuation given"
_FEW_CLUSTERS = "fewer than two clusters: no interval"


@dataclass(frozen=True)
class Place:
    """Where a table of effects was measured."""

    layer: int
    language: str
    split: str


@dataclass(frozen=True)
class EffectRow:
    """One number of one arm; NaN, with the reason in `note`, where it cannot be computed."""

    arm: str
    arm_name: str
    target: str
    layer: int
    language: str
    split: str
    strength: float
    metric: str
    value: float
    low: float
    high: float
    p: float | None
    n_images: int
    n_clusters: int
    note: str


@dataclass(frozen=True)
class RandomSetRow:
    """One number of one matched random set."""

    set_no: int
    target: str
    layer: int
    language: str
    metric: str
    value: float


@dataclass(frozen=True)
class Draws:
    """A metric of A arms: values, their bootstrap draws, and what they rest on."""

    value_A: np.ndarray
    draw_AR: np.ndarray
    n_images: int
    n_clusters: int
    note: str = ""


def closed_set_draws(images: Images, arms: Sequence[ClosedSet], baseline: ClosedSet, *, seed: int, n_draws: int = 2000) -> dict[str, Draws]:
    """Every metric of both axes for A arms on the same images, with draws: what is left on ambiguous images, harm on clear ones.

    stereotype_spread S = SD over contexts of P(F | F or M), corrected for sampling of images; masculine_default D = 1/2 - its mean over contexts;
    clear_harm = rise of wrong + neutral over the baseline arm. Metrics whose images are missing are left out.
    """
    cluster_N, n_clusters = cluster_index(images.cluster_N)
    counts_RG = bootstrap_counts(images.cluster_N, n_draws, seed) if n_clusters > 1 else np.zeros((0, n_clusters))
    metrics: dict[str, Draws] = {}
    if images.ambiguous_N.any():
        metrics |= _ambiguous_draws(images, cluster_N, arms, counts_RG)
    if not images.ambiguous_N.all():
        metrics |= _clear_draws(images, arms, baseline, counts_RG)
    return metrics


def _ambiguous_draws(images: Images, cluster_N: np.ndarray, arms: Sequence[ClosedSet], counts_RG: np.ndarray) -> dict[str, Draws]:
    kept_N = images.ambiguous_N
    cells = Cells.of(images.where(kept_N), cluster_N[kept_N])
    sums_AC = cells.sums(np.stack([arm.share_female[kept_N] for arm in arms]))
    n_images, n_clusters = int(kept_N.sum()), len(np.unique(cluster_N[kept_N]))
    weight_RC = np.concatenate([np.ones((1, len(cells.count_C))), counts_RG[:, cells.cluster_C]])
    variances = [spread_variance(cells, sums_C, weight_RC) for sums_C in sums_AC]
    # A draw has sampling noise on top of the noise that the data already have, so the data's own noise is taken off once more.
    root_AR = np.stack([_root(np.append(corrected_R[:1], corrected_R[1:] - noise_R[0])) for corrected_R, noise_R in variances])
    default_AR = 0.5 - np.stack([defined_mean(context_means(cells, sums_C, weight_RC)) for sums_C in sums_AC])
    metrics = {
        "stereotype_spread": Draws(root_AR[:, 0], root_AR[:, 1:], n_images, n_clusters, _borrowed_note(cells)),
        "masculine_default": Draws(default_AR[:, 0], default_AR[:, 1:], n_images, n_clusters),
    }
    if all(arm.neutral is not None for arm in arms):
        metrics["ambiguous_neutral"] = mean_draws(images, [arm.joint[2] for arm in arms], counts_RG, kept_N)
    return metrics


def _root(variance: np.ndarray) -> np.ndarray:
    """Standard deviation of a corrected variance; one at or below 0 is no spread. NaN stays NaN."""
    return np.sqrt(np.where(variance < 0, 0.0, variance))


def _borrowed_note(cells: Cells) -> str:
    lone = int((cells.is_context_CO.sum(axis=0) < 2).sum())
    if lone == cells.is_context_CO.shape[1]:
        return "each context has one cluster, so sampling noise cannot be told from spread"
    return f"{lone} contexts have one cluster; their sampling noise is taken to be that of the others" if lone else ""


def _clear_draws(images: Images, arms: Sequence[ClosedSet], baseline: ClosedSet, counts_RG: np.ndarray) -> dict[str, Draws]:
    clear_N = ~images.ambiguous_N
    shares = [clear_shares(images, arm) for arm in arms]
    before = clear_shares(images, baseline)
    has_neutral = all(closed.neutral is not None for closed in (*arms, baseline))
    harm = [(after["wrong"] + after["neutral"]) - (before["wrong"] + before["neutral"]) for after in shares]
    columns = {
        "clear_accuracy": [share["right"] for share in shares],
        "clear_wrong": [share["wrong"] for share in shares],
        "clear_harm": harm,
    }
    if has_neutral:
        columns["clear_neutral"] = [share["neutral"] for share in shares]

    def spread_out(values: np.ndarray) -> np.ndarray:
        full_N = np.zeros(len(clear_N))
        full_N[clear_N] = values
        return full_N

    note = "" if has_neutral else NO_NEUTRAL
    return {
        metric: mean_draws(images, [spread_out(values) for values in per_arm], counts_RG, clear_N, note if metric == "clear_harm" else "")
        for metric, per_arm in columns.items()
    }


def mean_draws(images: Images, values: Sequence[np.ndarray], counts_RG: np.ndarray, kept_N: np.ndarray, note: str = "") -> Draws:
    """The mean over the images kept, for A arms; draws come from multiplicities of all images' clusters."""
    kept = kept_N.astype(float)
    columns_NA = np.stack([finite(np.where(kept_N, column, 0.0), "a metric") for column in values] + [kept], axis=1)
    sums_GA = cluster_sums(images.cluster_N, columns_NA * kept[:, None])
    total_A = sums_GA.sum(axis=0)
    drawn_RA = counts_RG @ sums_GA
    with np.errstate(invalid="ignore", divide="ignore"):
        draw_AR = (drawn_RA[:, :-1] / drawn_RA[:, -1:]).T
    return Draws(total_A[:-1] / total_A[-1], draw_AR, int(kept_N.sum()), len(np.unique(images.cluster_N[kept_N])), note)


def image_mean_draws(images: Images, values: Sequence[np.ndarray], *, seed: int, n_draws: int = 2000) -> Draws:
    """Mean over all images of any per-image number (KL, cross-entropy rise, caption changed) for A arms, with draws."""
    counts_RG = bootstrap_counts(images.cluster_N, n_draws, seed)
    return mean_draws(images, values, counts_RG, np.ones(len(images.image_N), dtype=bool))


def effect_rows(labels: Sequence[ArmLabel], metrics: Mapping[str, Draws], place: Place, *, kind: str = "percentile") -> list[EffectRow]:
    """One row per arm and metric, with 95 % intervals of the draws."""
    rows = []
    for metric, draws in metrics.items():
        if len(draws.value_A) != len(labels):
            raise InputError(f"{metric} was measured for {len(draws.value_A)} arms, {len(labels)} are named; name each arm once, in order")
        for label, value, draw_R in zip(labels, draws.value_A, draws.draw_AR, strict=True):
            low, high, reason = _interval(float(value), draw_R, draws.n_clusters, kind)
            note = "; ".join(part for part in (draws.note, reason) if part)
            rows.append(_row(label, place, metric, (float(value), low, high), (draws.n_images, draws.n_clusters), note))
    return rows


def _interval(value: float, draw_R: np.ndarray, n_clusters: int, kind: str) -> tuple[float, float, str]:
    if n_clusters < 2 or not len(draw_R):
        return float("nan"), float("nan"), _FEW_CLUSTERS
    return interval_of_draws(value, draw_R, kind=kind)


def _row(
    label: ArmLabel, place: Place, metric: str, estimate: tuple[float, float, float], counts: tuple[int, int], note: str, p: float | None = None
) -> EffectRow:
    arm = (label.arm, label.name, label.target, place.layer, place.language, place.split, label.strength)
    return EffectRow(*arm, metric, *estimate, p, *counts, note)


def against_random_sets(
    rows: Iterable[EffectRow], target: str, strength: float, sets: Mapping[str, Draws], place: Place, label: ArmLabel
) -> tuple[list[EffectRow], list[RandomSetRow]]:
    """The rows with permutation p filled in for the arm that the sets control, the pooled row of the sets (arm A6) per metric, and the rows of all sets.

    `sets` are metrics of S matched sets. p = (1 + #{|T_s - med| >= |T - med|}) / (S + 1), for A3 of `target` at `strength` in this place. The A6 row is the
    median with the central 95 % of the sets.
    """
    filled = []
    for row in rows:
        controlled = row.arm == "A3" and row.target == target and row.strength == strength and row.metric in sets
        in_place = (row.layer, row.language, row.split) == (place.layer, place.language, place.split)
        if controlled and in_place and not np.isnan(row.value):
            row = replace(row, p=permutation_p(row.value, sets[row.metric].value_A))
        filled.append(row)
    drawn = [
        RandomSetRow(number, target, place.layer, place.language, metric, float(value))
        for metric, draws in sets.items()
        for number, value in enumerate(draws.value_A)
    ]
    for metric, draws in sets.items():
        low, middle, high = np.quantile(finite(draws.value_A, metric), [0.025, 0.5, 0.975])
        note = f"median of {len(draws.value_A)} matched sets; the interval is their central 95 %"
        filled.append(_row(label, place, metric, (float(middle), float(low), float(high)), (draws.n_images, draws.n_clusters), note))
    return filled, drawn


def beyond_random(target: Draws, sets: Draws, *, seed: int) -> tuple[float, float, float]:
    """(difference, low, high) of an arm's metric minus the mean of its matched random sets', images and sets both resampled.

    `target` holds one arm, `sets` S of them, with draws from the same seed: draw r has the same images in both, and sets are drawn anew for each.
    """
    n_sets, n_draws = sets.draw_AR.shape
    if target.draw_AR.shape != (1, n_draws):
        raise InputError(f"the arm has draws of shape {target.draw_AR.shape}, its random sets {sets.draw_AR.shape}; draw both with one seed")
    picked_RS = np.random.default_rng(seed).integers(0, n_sets, (n_draws, n_sets))
    random_R = np.take_along_axis(sets.draw_AR.T, picked_RS, axis=1).mean(axis=1)
    value = float(target.value_A[0] - sets.value_A.mean())
    low, high, _ = interval_of_draws(value, target.draw_AR[0] - random_R)
    return value, low, high
