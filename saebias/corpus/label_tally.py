"""Counting labels: shares with image-cluster intervals, rates per 100 words, what was counted, and before against after.

Everything is summed per cluster (image) while captions stream by, so that a million captions need the memory of their images only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from saebias.corpus.labels import LABELS, CaptionLabel
from saebias.corpus.prevalence import LabellerQuality, Prevalence, corrected_prevalence
from saebias.errors import InputError

# Per cluster: captions, one column per label, explicit M, ambiguous labels, marks of each gender, words.
COLUMNS = ("captions", *LABELS, "M explicit", "ambiguous", "marks F", "marks M", "marks M explicit", "words")
LENGTH_DRIFT = 0.05


@dataclass(frozen=True)
class FormCount:
    """How often one written form was counted (or rejected) by one rule."""

    form: str
    gender: str
    rule: str
    counted: bool
    captions: int


@dataclass(frozen=True)
class Tally:
    """Sums per cluster, in the order of `clusters`; `counts_GK` has one column per name in COLUMNS."""

    clusters: tuple[str, ...]
    counts_GK: NDArray[np.int64]
    digests: tuple[str, ...]
    """Of the captions of each cluster, in their order: equal digests are equal captions."""
    forms: tuple[FormCount, ...]

    def column(self, name: str) -> NDArray[np.int64]:
        """One column of sums, per cluster."""
        return self.counts_GK[:, COLUMNS.index(name)]


@dataclass(frozen=True)
class RateRow:
    """One share or rate with its 95 % interval over clusters; `value` is NaN where there is nothing to divide by."""

    measure: str
    hits: int
    of: int
    value: float
    low: float
    high: float


@dataclass
class Tallier:
    """Takes labelled captions one by one and gives their sums."""

    _sums: dict[str, list[int]] = field(default_factory=dict)
    _texts: dict[str, bytes] = field(default_factory=dict)
    _forms: Counter[tuple[str, str, str, bool]] = field(default_factory=Counter)

    def add(self, cluster: str, text: str, label: CaptionLabel) -> None:
        """Count one labelled caption of a cluster."""
        sums = self._sums.setdefault(cluster, [0] * len(COLUMNS))
        sums[0] += 1
        sums[1 + LABELS.index(label.label)] += 1
        after = 1 + len(LABELS)
        sums[after] += label.label == "M" and label.explicit
        sums[after + 1] += label.ambiguous
        for item in label.evidence:
            sums[after + 2] += item.gender == "F"
            sums[after + 3] += item.gender == "M"
            sums[after + 4] += item.gender == "M" and item.explicit
        sums[after + 5] += label.words
        self._texts[cluster] = blake2b(self._texts.get(cluster, b"") + text.encode("utf-8", "surrogatepass") + b"\0", digest_size=8).digest()
        seen = {(item.surface.lower(), item.gender, item.rule, True) for item in label.evidence}
        self._forms.update(seen | {(item.surface.lower(), item.gender, item.rule, False) for item in label.rejected})

    def tally(self) -> Tally:
        """The sums so far."""
        clusters = tuple(self._sums)
        counts_GK = np.array([self._sums[cluster] for cluster in clusters], dtype=np.int64).reshape(len(clusters), len(COLUMNS))
        forms = tuple(FormCount(form, gender, rule, counted, n) for (form, gender, rule, counted), n in self._forms.most_common())
        return Tally(clusters, counts_GK, tuple(self._texts[cluster].hex() for cluster in clusters), forms)


def rate(measure: str, hits_G: NDArray[np.int64], of_G: NDArray[np.int64], seed: int, draws: int = 2_000) -> RateRow:
    """Sum of `hits_G` over sum of `of_G` with a percentile interval from resampled clusters."""
    hits, of = int(hits_G.sum()), int(of_G.sum())
    nan = float("nan")
    if of == 0:
        return RateRow(measure, hits, of, nan, nan, nan)
    # Clusters with equal sums are alike: resampling them is one multinomial draw over the distinct sums K.
    distinct_K2, clusters_K = np.unique(np.stack([hits_G, of_G], axis=1), axis=0, return_counts=True)
    drawn_BK = np.random.default_rng(seed).multinomial(hits_G.size, clusters_K / hits_G.size, size=draws)
    below_B = drawn_BK @ distinct_K2[:, 1]
    drawn_B = (drawn_BK @ distinct_K2[:, 0])[below_B > 0] / below_B[below_B > 0]
    low, high = np.quantile(drawn_B, [0.025, 0.975])
    return RateRow(measure, hits, of, hits / of, float(low), float(high))


def summary_rows(tally: Tally, seed: int, draws: int = 2_000) -> list[RateRow]:
    """Share of captions per label, F among F and M, marks per 100 words, and words per caption, each over image clusters."""
    captions_G, words_G = tally.column("captions"), tally.column("words")
    rows = [rate(f"share {name}", tally.column(name), captions_G, seed, draws) for name in (*LABELS, "M explicit", "ambiguous")]
    rows.append(rate("F of F or M", tally.column("F"), tally.column("F") + tally.column("M"), seed, draws))
    for name in ("marks F", "marks M", "marks M explicit"):
        per_word = rate(f"{name} per 100 words", tally.column(name), words_G, seed, draws)
        rows.append(RateRow(per_word.measure, per_word.hits, per_word.of, 100 * per_word.value, 100 * per_word.low, 100 * per_word.high))
    rows.append(rate("words per caption", words_G, captions_G, seed, draws))
    return rows


def corrected_share(tally: Tally, label: str, quality: LabellerQuality, seed: int) -> Prevalence:
    """The share of captions that truly carry `label`, corrected for the labeller's error rates (see `prevalence`)."""
    if label not in LABELS:
        raise InputError(f"{label!r} is no label; labels are {', '.join(LABELS)}")
    return corrected_prevalence(tally.column(label), tally.column("captions"), quality, seed)


@dataclass(frozen=True)
class Comparison:
    """Before against after on the clusters that both have."""

    rows: tuple[RateRow, ...]
    """Differences after - before: shares per label, marks per 100 words, words per caption."""
    clusters: int
    only_before: int
    only_after: int
    alarms: tuple[str, ...]


def compare(before: Tally, after: Tally, seed: int, draws: int = 2_000) -> Comparison:
    """Paired differences after - before with intervals over the shared clusters, and what should make a reader doubt them.

    Raises InputError where the two share no cluster.
    """
    places = {cluster: place for place, cluster in enumerate(before.clusters)}
    shared = [(places[cluster], place) for place, cluster in enumerate(after.clusters) if cluster in places]
    if not shared:
        raise InputError("the two files share no image id; compare captions of the same images, or name the image column")
    left, right = np.array(shared).T
    first_GK, second_GK = before.counts_GK[left], after.counts_GK[right]
    rows = tuple(_difference(name, first_GK, second_GK, seed, draws) for name in _DIFFERENCES)
    same = sum(before.digests[a] == after.digests[b] for a, b in shared)
    lengths = [float(counts[:, -1].sum() / counts[:, 0].sum()) for counts in (first_GK, second_GK)]
    return Comparison(rows, len(shared), len(places) - len(shared), len(after.clusters) - len(shared), _alarms(same, len(shared), lengths))


_DIFFERENCES: dict[str, tuple[str, str, float]] = {
    **{f"share {label}": (label, "captions", 1.0) for label in (*LABELS, "M explicit")},
    "marks F per 100 words": ("marks F", "words", 100.0),
    "marks M per 100 words": ("marks M", "words", 100.0),
    "words per caption": ("words", "captions", 1.0),
}


def _difference(name: str, first_GK: NDArray[np.int64], second_GK: NDArray[np.int64], seed: int, draws: int) -> RateRow:
    numerator, denominator, scale = _DIFFERENCES[name]
    columns = [COLUMNS.index(numerator), COLUMNS.index(denominator)]
    both_G4 = np.concatenate([first_GK[:, columns], second_GK[:, columns]], axis=1)
    distinct_K4, clusters_K = np.unique(both_G4, axis=0, return_counts=True)
    drawn_B4 = np.random.default_rng(seed).multinomial(len(both_G4), clusters_K / len(both_G4), size=draws) @ distinct_K4
    total_4 = both_G4.sum(axis=0)
    if total_4[1] == 0 or total_4[3] == 0:
        nan = float("nan")
        return RateRow(name, int(total_4[2] - total_4[0]), 0, nan, nan, nan)
    usable_B4 = drawn_B4[(drawn_B4[:, 1] > 0) & (drawn_B4[:, 3] > 0)]
    low, high = np.quantile(scale * (usable_B4[:, 2] / usable_B4[:, 3] - usable_B4[:, 0] / usable_B4[:, 1]), [0.025, 0.975])
    value = scale * (total_4[2] / total_4[3] - total_4[0] / total_4[1])
    return RateRow(name, int(total_4[2] - total_4[0]), len(both_G4), float(value), float(low), float(high))


def _alarms(same: int, clusters: int, lengths: list[float]) -> tuple[str, ...]:
    """Identical captions, captions that all changed, and a drift of length that changes counts by itself."""
    found = []
    if same == clusters:
        found.append("all captions are identical: the change that is being measured did not happen")
    elif same == 0 and clusters > 20:
        found.append("every caption changed: this is another model or another decoding, not a small edit")
    if lengths[0] == 0:
        found.append("the captions before have no words")
    elif abs(lengths[1] / lengths[0] - 1) > LENGTH_DRIFT:
        found.append(f"length changed by {100 * (lengths[1] / lengths[0] - 1):+.0f} %: read rates per 100 words, not counts")
    return tuple(found)
