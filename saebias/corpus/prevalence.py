"""How common a label really is, corrected for how often the labeller is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saebias.corpus.label_lexicon import FOLDER
from saebias.errors import InputError

MIN_DRAWS = 2_000


@dataclass(frozen=True)
class LabellerQuality:
    """How the labeller did on gold captions: `found` of `positives` it should call positive, `spared` of `negatives` it should not."""

    found: int
    positives: int
    spared: int
    negatives: int

    def __post_init__(self) -> None:
        if not 0 <= self.found <= self.positives or not 0 <= self.spared <= self.negatives:
            raise InputError(f"labeller quality {self}: found and spared must lie between 0 and the number of gold captions")

    @property
    def sensitivity(self) -> float:
        """Share of gold positives that are called positive; NaN without any."""
        return self.found / self.positives if self.positives else float("nan")

    @property
    def specificity(self) -> float:
        """Share of gold negatives that are not called positive; NaN without any."""
        return self.spared / self.negatives if self.negatives else float("nan")


@dataclass(frozen=True)
class Prevalence:
    """An observed share, the share after correction with its 95 % interval, and why there is none where there is none."""

    observed: float
    corrected: float
    low: float
    high: float
    sensitivity: float
    specificity: float
    clusters: int
    reason: str
    """Empty, or why `corrected` is NaN or stands at the edge of 0 and 1."""


def measured_quality(language: str, label: str) -> LabellerQuality:
    """How the labeller did for `label` (F or M) on sentences that nobody tuned it on; raises InputError for what was not measured.

    Counts: the odd half of MT-GenEval dev (see `lexicon/quality.tsv`), whose sentences are longer and harder than captions.
    """
    for line in (FOLDER / "quality.tsv").read_text(encoding="utf-8").splitlines():
        cells = line.split("\t")
        if cells[:2] == [language, label]:
            found, positives, spared, negatives = map(int, cells[2:6])
            return LabellerQuality(found, positives, spared, negatives)
    raise InputError(f"no measured error rates for label {label!r} in language {language!r}; F and M are measured in en and ar")


def corrected_prevalence(positives_C: NDArray[np.int64], captions_C: NDArray[np.int64], quality: LabellerQuality, seed: int, draws: int = 4_000) -> Prevalence:
    """The share of captions that truly carry the label, from counts per image cluster C (positives, captions), with a 95 % interval.

    Rogan & Gladen (1978): p = (p_obs - (1 - specificity)) / (sensitivity + specificity - 1). The interval carries the uncertainty of
    both sets: clusters are resampled, sensitivity and specificity are drawn from their Jeffreys posteriors. Values beyond 0 and 1 are
    set to the edge and said so in `reason`; a labeller that is no better than chance gives NaN. Raises InputError for counts that cannot be.
    """
    if positives_C.shape != captions_C.shape or positives_C.ndim != 1 or positives_C.size == 0:
        raise InputError(f"prevalence needs one count of positives and captions per cluster; got shapes {positives_C.shape} and {captions_C.shape}")
    if (positives_C > captions_C).any() or (captions_C < 1).any() or (positives_C < 0).any():
        raise InputError("prevalence: a cluster has more positives than captions, or no caption; count both over the same captions")
    if draws < MIN_DRAWS:
        raise InputError(f"prevalence: {draws} draws are too few for an interval; use at least {MIN_DRAWS}")
    observed = float(positives_C.sum() / captions_C.sum())
    sensitivity, specificity, clusters = quality.sensitivity, quality.specificity, int(positives_C.size)
    nan = float("nan")
    if not sensitivity + specificity > 1.0:
        reason = "no gold captions of one kind" if np.isnan(sensitivity + specificity) else "the labeller is no better than chance on the gold captions"
        return Prevalence(observed, nan, nan, nan, sensitivity, specificity, clusters, reason)
    point = rogan_gladen(observed, sensitivity, specificity)
    drawn_B = _drawn(positives_C, captions_C, quality, np.random.default_rng(seed), draws)
    usable_B = drawn_B[np.isfinite(drawn_B)]
    if usable_B.size < 0.95 * draws:
        return Prevalence(observed, nan, nan, nan, sensitivity, specificity, clusters, "too few gold captions: the labeller may be no better than chance")
    low, high = np.clip(np.quantile(usable_B, [0.025, 0.975]), 0.0, 1.0)
    reason = "" if 0.0 <= point <= 1.0 else "the observed share is outside what the error rates allow"
    return Prevalence(observed, min(max(point, 0.0), 1.0), float(low), float(high), sensitivity, specificity, clusters, reason)


def rogan_gladen(observed: float, sensitivity: float, specificity: float) -> float:
    """The share before errors, not bounded to [0, 1]; sensitivity + specificity must exceed 1."""
    return (observed - (1.0 - specificity)) / (sensitivity + specificity - 1.0)


def _drawn(
    positives_C: NDArray[np.int64], captions_C: NDArray[np.int64], quality: LabellerQuality, rng: np.random.Generator, draws: int
) -> NDArray[np.float64]:
    """Corrected shares under resampled clusters and drawn error rates, (draws,); NaN where a draw is no better than chance."""
    # Clusters with equal counts are alike: resampling them is one multinomial draw over the distinct counts K.
    distinct_K2, clusters_K = np.unique(np.stack([positives_C, captions_C], axis=1), axis=0, return_counts=True)
    drawn_BK = rng.multinomial(positives_C.size, clusters_K / positives_C.size, size=draws)
    observed_B = (drawn_BK @ distinct_K2[:, 0]) / (drawn_BK @ distinct_K2[:, 1])
    sensitivity_B = rng.beta(quality.found + 0.5, quality.positives - quality.found + 0.5, size=draws)
    specificity_B = rng.beta(quality.spared + 0.5, quality.negatives - quality.spared + 0.5, size=draws)
    power_B = sensitivity_B + specificity_B - 1.0
    return np.where(power_B > 0.0, (observed_B - 1.0 + specificity_B) / np.where(power_B > 0.0, power_B, 1.0), np.nan)
