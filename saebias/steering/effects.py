"""Effects of the arms as table rows: values with image-cluster intervals, and permutation p against matched random sets.

Every arm sees the same bootstrap draws, so arms can be compared draw by draw. Shapes: N images (one language), A arms, S random sets, R draws, G clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from saebias.errors import InputError
from saebias.stats.checks import finite
from saebias.stats.effects import permutation_p
from saebias.stats.heterogeneity import group_means, spread_of_groups
from saebias.stats.resampling import bootstrap_counts, cluster_sums, interval_of_draws
from saebias.steering.arms import ArmLabel
from saebias.steering.outcomes import ClosedSet, Images, clear_metrics, contexts_with_noise, spread_and_default

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
    """A metric of A arms: values, their bootstrap draws, and what they rest on. `interval_A2` stands where the draws' percentiles are not the interval."""

    value_A: np.ndarray
    draw_AR: np.ndarray
    n_images: int
    n_clusters: int
    note: str = ""
    interval_A2: np.ndarray | None = None


def closed_set_values(images: Images, arms: Sequence[ClosedSet], baseline: ClosedSet) -> dict[str, np.ndarray]:
    """Every metric of both axes for A arms on the same images, without intervals (for random sets): values [A] per metric name.

    stereotype_spread S = SD over contexts of P(F | F or M), corrected for sampling of images; masculine_default D = 1/2 - its mean over contexts;
    clear_accuracy, clear_wrong, clear_neutral; clear_harm = rise of wrong + neutral over the baseline arm. Metrics whose images are missing are left out.
    """
    metrics: dict[str, np.ndarray] = {}
    if images.ambiguous_N.any():
        kept_N = contexts_with_noise(images)
        spread_A, default_A, _ = spread_and_default(images.where(kept_N), np.stack([arm.share_female[kept_N] for arm in arms]))
        metrics |= {"stereotype_spread": spread_A, "masculine_default": default_A}
        if all(arm.neutral is not None for arm in arms):
            metrics["ambiguous_neutral"] = np.array([arm.joint[2][images.ambiguous_N].mean() for arm in arms])
    if not images.ambiguous_N.all():
        per_arm = [clear_metrics(images, arm, baseline) for arm in arms]
        metrics |= {metric: np.array([values[metric].mean() for values in per_arm]) for metric in per_arm[0]}
    return metrics


def closed_set_draws(images: Images, arms: Sequence[ClosedSet], baseline: ClosedSet, *, seed: int, n_draws: int = 2000) -> dict[str, Draws]:
    """The metrics of `closed_set_values` with bootstrap draws over image clusters, the same draws for every arm."""
    metrics: dict[str, Draws] = {}
    counts_RG = bootstrap_counts(images.cluster_N, n_draws, seed)
    if images.ambiguous_N.any():
        metrics |= _ambiguous_draws(images, arms, seed, n_draws)
        if all(arm.neutral is not None for arm in arms):
            metrics["ambiguous_neutral"] = mean_draws(images, np.stack([arm.joint[2] for arm in arms]), counts_RG, images.ambiguous_N)
    if not images.ambiguous_N.all():
        clear_N = ~images.ambiguous_N
        per_arm = [clear_metrics(images, arm, baseline) for arm in arms]
        for metric in per_arm[0]:
            full_AN = np.zeros((len(arms), len(clear_N)))
            full_AN[:, clear_N] = np.stack([values[metric] for values in per_arm])
            note = NO_NEUTRAL if metric == "clear_harm" and "clear_neutral" not in per_arm[0] else ""
            metrics[metric] = mean_draws(images, full_AN, counts_RG, clear_N, note)
    return metrics


def _ambiguous_draws(images: Images, arms: Sequence[ClosedSet], seed: int, n_draws: int) -> dict[str, Draws]:
    kept_N = contexts_with_noise(images)
    kept = images.where(kept_N)
    share_AN = np.stack([arm.share_female[kept_N] for arm in arms])
    spread_A, default_A, noise_A = spread_and_default(kept, share_AN)
    drawn_ROA = group_means(share_AN.T, kept.context_N, kept.cluster_N, n_draws=n_draws, seed=seed).draws_RO
    # A draw has sampling noise on top of the noise that the data already have: both are taken off. Differences and ratios between arms use these draws.
    spread_AR = np.sqrt(np.maximum(0.0, drawn_ROA.var(axis=1, ddof=1).T - 2 * noise_A[:, None]))
    tested = [spread_of_groups(share_N, kept.context_N, kept.cluster_N, seed=seed, n_draws=n_draws, n_permutations=1) for share_N in share_AN]
    interval_A2 = np.array([(found.low, found.high) for found in tested])
    left_out = int(images.ambiguous_N.sum() - kept_N.sum())
    note = f"{left_out} images left out: their contexts have one cluster" if left_out else ""
    counts = int(kept_N.sum()), len(np.unique(kept.cluster_N))
    return {
        "stereotype_spread": Draws(spread_A, spread_AR, *counts, note, interval_A2),
        "masculine_default": Draws(default_A, 0.5 - drawn_ROA.mean(axis=1).T, *counts, note),
    }


def mean_draws(images: Images, value_AN: np.ndarray, counts_RG: np.ndarray, kept_N: np.ndarray, note: str = "") -> Draws:
    """The mean over the images kept, for A arms, with draws from the multiplicities of all images' clusters; NaN where a draw has none of them."""
    kept = kept_N.astype(float)
    columns_NA = np.concatenate([finite(np.where(kept_N, value_AN, 0.0), "a metric").T, kept[:, None]], axis=1)
    sums_GA = cluster_sums(images.cluster_N, columns_NA)
    drawn_RA = counts_RG @ sums_GA
    count_R1 = drawn_RA[:, -1:]
    draw_RA = np.divide(drawn_RA[:, :-1], count_R1, out=np.full_like(drawn_RA[:, :-1], np.nan), where=count_R1 > 0)
    total_A = sums_GA.sum(axis=0)
    return Draws(total_A[:-1] / total_A[-1], draw_RA.T, int(kept_N.sum()), len(np.unique(images.cluster_N[kept_N])), note)


def image_mean_draws(images: Images, value_AN: np.ndarray, *, seed: int, n_draws: int = 2000) -> Draws:
    """Mean over all images of any per-image number (KL, cross-entropy rise, caption changed) for A arms, with draws."""
    return mean_draws(images, value_AN, bootstrap_counts(images.cluster_N, n_draws, seed), np.ones(len(images.image_N), dtype=bool))


def effect_rows(labels: Sequence[ArmLabel], metrics: Mapping[str, Draws], place: Place) -> list[EffectRow]:
    """One row per arm and metric, with 95 % intervals."""
    rows = []
    for metric, draws in metrics.items():
        if len(draws.value_A) != len(labels):
            raise InputError(f"{metric} was measured for {len(draws.value_A)} arms, {len(labels)} are named; name each arm once, in order")
        for number, label in enumerate(labels):
            value = float(draws.value_A[number])
            low, high, reason = _interval(draws, number)
            note = "; ".join(part for part in (draws.note, reason) if part)
            rows.append(_row(label, place, metric, (value, low, high), (draws.n_images, draws.n_clusters), note))
    return rows


def _interval(draws: Draws, number: int) -> tuple[float, float, str]:
    if draws.n_clusters < 2:
        return float("nan"), float("nan"), _FEW_CLUSTERS
    if draws.interval_A2 is not None:
        return float(draws.interval_A2[number, 0]), float(draws.interval_A2[number, 1]), ""
    return interval_of_draws(float(draws.value_A[number]), draws.draw_AR[number])


def _row(
    label: ArmLabel, place: Place, metric: str, estimate: tuple[float, float, float], counts: tuple[int, int], note: str, p: float | None = None
) -> EffectRow:
    arm = (label.arm, label.name, label.target, place.layer, place.language, place.split, label.strength)
    return EffectRow(*arm, metric, *estimate, p, *counts, note)


def against_random_sets(rows: Iterable[EffectRow], sets: Mapping[str, np.ndarray], label: ArmLabel, place: Place) -> tuple[list[EffectRow], list[RandomSetRow]]:
    """The rows with permutation p filled in for the arm that the sets control, the pooled row of the sets (arm A6) per metric, and the rows of all sets.

    `sets` holds each metric's values over S matched sets, `label` is theirs: p = (1 + #{|T_s - med| >= |T - med|}) / (S + 1) goes to arm A3 of the same
    target and strength in this place. The A6 row is the median with the central 95 % of the sets.
    """
    filled = []
    for row in rows:
        controlled = (row.arm, row.target, row.strength) == ("A3", label.target, label.strength) and row.metric in sets
        in_place = (row.layer, row.language, row.split) == (place.layer, place.language, place.split)
        if controlled and in_place and not np.isnan(row.value):
            filled.append(replace(row, p=permutation_p(row.value, sets[row.metric])))
            counts = row.n_images, row.n_clusters
            low, middle, high = np.quantile(finite(sets[row.metric], row.metric), [0.025, 0.5, 0.975])
            note = f"median of {len(sets[row.metric])} matched sets; the interval is their central 95 %"
            filled.append(_row(label, place, row.metric, (float(middle), float(low), float(high)), counts, note))
        else:
            filled.append(row)
    drawn = [
        RandomSetRow(number, label.target, place.layer, place.language, metric, float(value))
        for metric, values in sets.items()
        for number, value in enumerate(values)
    ]
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
