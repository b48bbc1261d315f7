"""Linear probes of visible gender: layer x language x token kind, with the controls without which a probe means nothing.

A probe may only read rows at or before the decision position: behind it stands the caption's own gender word, and reading that says nothing about the picture.
Shapes: N rows (one per image), D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from saebias.errors import InputError
from saebias.stats.checks import cluster_index, finite, same_rows
from saebias.stats.codelength import online_codelength
from saebias.stats.probing import ProbeResult, probe, probe_transfer

READS_CAPTION = "READS THE CAPTION: rows lie behind the caption's own gender word, or the prompt shows it; no evidence about the picture"
OWN_MEAN = "each language centred on its own mean"


@dataclass(frozen=True)
class ProbeRows:
    """What one probe reads: one row per image that shows a woman or a man.

    `offset_N` is the row's position minus the decision position of its caption: at most 0 where the caption's gender word has not been read yet (image and
    prompt tokens always); None for features that are no tokens (pixels, word counts).
    """

    x_ND: np.ndarray
    is_female_N: np.ndarray
    image_N: np.ndarray
    cluster_N: np.ndarray
    context_N: np.ndarray
    offset_N: np.ndarray | None = None
    caption_in_prompt: bool = False
    """Whether the prompt itself showed the caption before these rows; a probe then says so, whatever the offsets."""

    def __post_init__(self) -> None:
        for name in ("x_ND", "is_female_N", "image_N", "cluster_N", "context_N"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        finite(self.x_ND, "probe activations")
        if self.x_ND.ndim != 2:
            raise InputError(f"probe activations have shape {self.x_ND.shape}; hand in [rows, dimensions]")
        same_rows(x=self.x_ND, is_female=self.is_female_N, image=self.image_N, cluster=self.cluster_N, context=self.context_N)
        if len(np.unique(self.image_N)) < len(self.image_N):
            raise InputError("a probe's rows name an image twice; pool its tokens, or take one")

    @property
    def reads_caption(self) -> bool:
        """Whether a row may have seen the caption's gender word."""
        return self.caption_in_prompt or self.lies_behind

    @property
    def lies_behind(self) -> bool:
        """Whether a row lies behind the decision position."""
        return self.offset_N is not None and bool((self.offset_N > 0).any())


@dataclass(frozen=True, order=True)
class ProbePlace:
    """Where a probe reads: a layer's tokens of one kind, or (layer None) a baseline by name, in one language."""

    language: str
    token_kind: str
    layer: int | None
    baseline: str | None = None


@dataclass(frozen=True)
class ProbeRow:
    """One probe as a table row; NaN, with the reason in `note`, where a number cannot be computed.

    `bits` is the online codelength per label (Voita & Titov 2020), 1 where nothing can be read: how much data the reading takes, not only whether it succeeds.
    """

    layer: int | None
    train_language: str
    test_language: str
    token_kind: str
    baseline: str | None
    balanced_accuracy: float
    low: float
    high: float
    auroc: float
    control_accuracy: float
    selectivity: float
    permuted_accuracy: float
    bits: float
    n_images: int
    n_clusters: int
    note: str


@dataclass(frozen=True)
class TransformerProbeAnalyzer:
    """Cross-fitted probes with folds over image clusters, scaling inside the fold, a control task per context, permuted labels, and description length.

    `n_orders`: random orders of the clusters that the description length is averaged over; 0 leaves it out.
    """

    n_folds: int = 5
    n_control: int = 10
    n_permutations: int = 99
    n_orders: int = 1

    def read(self, places: Mapping[ProbePlace, ProbeRows], *, seed: int, transfer: bool = True) -> list[ProbeRow]:
        """One row per place, and one per ordered pair of languages that share layer and token kind (trained on one, tested on the other).

        A place whose class has fewer clusters than folds gets a row of NaN with the reason.
        """
        rows = [self._within(place, data, seed) for place, data in places.items()]
        if not transfer:
            return rows
        groups: dict[tuple[str, int | None, str | None], list[ProbePlace]] = {}
        for place in places:
            groups.setdefault((place.token_kind, place.layer, place.baseline), []).append(place)
        for group in groups.values():
            rows += [self._across(train, test, places[train], places[test], seed) for train, test in permutations(group, 2)]
        return rows

    def _within(self, place: ProbePlace, data: ProbeRows, seed: int) -> ProbeRow:
        check_place(place, data)
        if data.x_ND.shape[1] == 0:
            return _row(place, place, _undefined(data, "all images have the same features here: nothing to read"), "")
        try:
            result = probe(
                data.x_ND,
                data.is_female_N,
                data.cluster_N,
                types=data.context_N,
                seed=seed,
                n_folds=self.n_folds,
                n_control=self.n_control,
                n_permutations=self.n_permutations,
            )
        except InputError as error:
            return _row(place, place, _undefined(data, str(error)), "")
        flag = READS_CAPTION if data.reads_caption else ""
        if self.n_orders == 0:
            return _row(place, place, result, flag)
        try:
            length = online_codelength(data.x_ND, data.is_female_N, data.cluster_N, seed=seed, n_orders=self.n_orders)
        except InputError as error:
            return _row(place, place, result, "; ".join(filter(None, [flag, str(error)])))
        return _row(place, place, result, flag, length.bits / length.n_rows)

    def _across(self, train: ProbePlace, test: ProbePlace, of_train: ProbeRows, of_test: ProbeRows, seed: int) -> ProbeRow:
        try:
            result = probe_transfer(
                of_train.x_ND,
                of_train.is_female_N,
                of_train.cluster_N,
                of_test.x_ND,
                of_test.is_female_N,
                of_test.cluster_N,
                seed=seed,
                n_folds=self.n_folds,
                centre="own",
                n_permutations=self.n_permutations,
            )
        except InputError as error:
            return _row(train, test, _undefined(of_test, str(error)), OWN_MEAN)
        flag = READS_CAPTION if of_train.reads_caption or of_test.reads_caption else ""
        return _row(train, test, result, "; ".join(filter(None, [OWN_MEAN, flag])))


def check_place(place: ProbePlace, data: ProbeRows) -> None:
    """Raise InputError where rows said to stand before the caption, or at the decision, lie behind it."""
    if place.token_kind in ("image", "prompt", "decision") and data.lies_behind:
        assert data.offset_N is not None
        behind = int((data.offset_N > 0).sum())
        raise InputError(
            f"{behind} of {len(data.offset_N)} rows of kind {place.token_kind!r} ({place.language}, layer {place.layer}) lie behind the decision position"
        )


def pool_tokens(x_TD: np.ndarray, image_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x_ND, image_N): the mean over each image's tokens, images in the order of `np.unique`; for probes only, never for a dictionary."""
    x_TD, image_T = np.asarray(x_TD), np.asarray(image_T)
    same_rows(x=x_TD, image=image_T)
    image_N = np.unique(image_T)
    index_T, n_images = cluster_index(image_T)
    # Sorted by image, the sums are segments: a hundred times faster than adding rows one by one.
    order_T = np.argsort(index_T, kind="stable")
    counts_N = np.bincount(index_T, minlength=n_images)
    sums_ND = np.add.reduceat(x_TD[order_T].astype(np.float64), np.cumsum(counts_N) - counts_N, axis=0)
    return sums_ND / counts_N[:, None], image_N


def _undefined(data: ProbeRows, reason: str) -> ProbeResult:
    nan = float("nan")
    return ProbeResult(nan, nan, nan, nan, nan, nan, nan, nan, len(data.image_N), len(np.unique(data.cluster_N)), reason)


def words_of(texts: Sequence[str]) -> np.ndarray:
    """Bag of words [N, W]: how often each text has each word, words that all texts have equally often left out (W may be 0)."""
    words = sorted({word for text in texts for word in text.split()})
    counts_NW = np.array([[text.split().count(word) for word in words] for text in texts], dtype=np.float64).reshape(len(texts), len(words))
    return counts_NW[:, np.ptp(counts_NW, axis=0) > 0] if len(texts) else counts_NW


def _row(train: ProbePlace, test: ProbePlace, result: ProbeResult, flag: str, bits: float = float("nan")) -> ProbeRow:
    return ProbeRow(
        layer=train.layer,
        train_language=train.language,
        test_language=test.language,
        token_kind=train.token_kind,
        baseline=train.baseline,
        balanced_accuracy=result.balanced_accuracy,
        low=result.low,
        high=result.high,
        auroc=result.auroc,
        control_accuracy=result.control_accuracy,
        selectivity=result.selectivity,
        permuted_accuracy=result.permuted_accuracy,
        bits=bits,
        n_images=result.n_rows,
        n_clusters=result.n_clusters,
        note="; ".join(filter(None, [flag, result.note])),
    )
