"""What captions give away about gender after every gender word was masked: content that goes with gender.

An attacker predicts the visible gender from masked captions, cross-fitted over image clusters. Masking is the caller's (`saebias.corpus.masking`), and
`masker_rows` proves it: a caption and its gender-swapped twin must look alike once masked. Shapes: N captions, V terms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from saebias.bias.rows import BiasRow, bias_row
from saebias.errors import InputError
from saebias.stats.checks import binary, same_rows
from saebias.stats.probing import ProbeResult, probe
from saebias.stats.resampling import Estimate
from saebias.stats.shares import difference_of_shares

_MOST_TERMS = 1000
_SHORTEST_SHARE = 0.002


def leakage_rows(
    language: str,
    image: np.ndarray,
    cluster: np.ndarray,
    is_female: np.ndarray,
    masked: Sequence[str],
    masked_reference: Sequence[str] | None = None,
    *,
    seed: int,
    n_permutations: int = 99,
) -> tuple[BiasRow, ...]:
    """Balanced accuracy of each attacker on masked captions of clear images, .5 being no leakage.

    Attackers: words (which words occur), characters (which three-character pieces occur, so endings count), length (number of words: a trivial one). Metrics
    leakage_<attacker>, with the permutation p in the note; with reference captions of the same images also leakage_reference_<attacker> and
    leakage_gap_<attacker>, captions minus reference: what the model adds (Hirota, Nakashima & Garcia 2022, CVPR, "Quantifying Societal Bias Amplification in
    Image Captioning"); its interval treats the two as independent, which errs to the wide side. `leakage` is the attacker "words". An attacker is NaN with a
    note when a gender has fewer clusters than folds.
    """
    female_N = binary(is_female, "is_female")
    same_rows(image=np.asarray(image), cluster=np.asarray(cluster), is_female=female_N, masked=np.asarray(masked, dtype=object))
    images = len(np.unique(np.asarray(image)))
    rows: list[BiasRow] = []
    for attacker, featurise in ATTACKERS.items():
        own = _attack(featurise(masked), female_N, cluster, seed, n_permutations)
        rows.append(bias_row(f"leakage_{attacker}", language, own, n_images=images))
        if attacker == "words":
            rows.append(bias_row("leakage", language, own, n_images=images))
        if masked_reference is not None:
            same_rows(masked=np.asarray(masked, dtype=object), reference=np.asarray(masked_reference, dtype=object))
            reference = _attack(featurise(masked_reference), female_N, cluster, seed, n_permutations)
            rows.append(bias_row(f"leakage_reference_{attacker}", language, reference, n_images=images))
            gap = difference_of_shares(own, reference)
            gap = Estimate(gap.value, gap.low, gap.high, own.n_rows, own.n_clusters, "the same images in both: the interval errs to the wide side")
            rows.append(bias_row(f"leakage_gap_{attacker}", language, gap, n_images=images))
    return tuple(rows)


def masker_rows(language: str, masked: Sequence[str], masked_swapped: Sequence[str], *, seed: int) -> tuple[BiasRow, ...]:
    """Proof of the masker: of captions and their gender-swapped twins, both masked, the share that came out alike and what an attacker tells apart.

    Metrics masker_alike (should be 1) and masker_leakage_words (should be .5: pairs are one cluster, so no scene can help). Raises InputError without pairs.
    """
    pairs = same_rows(masked=np.asarray(masked, dtype=object), swapped=np.asarray(masked_swapped, dtype=object))
    alike = float(np.mean([one == other for one, other in zip(masked, masked_swapped, strict=True)]))
    pair_N, original_N = np.tile(np.arange(pairs), 2), np.repeat([1, 0], pairs)
    found = _attack(words([*masked, *masked_swapped]), original_N.astype(bool), pair_N, seed, 0)
    nan = float("nan")
    return (
        BiasRow("masker_alike", language, None, None, alike, nan, nan, pairs, pairs, "share of swapped pairs; no interval"),
        bias_row("masker_leakage_words", language, found, n_images=pairs),
    )


def words(texts: Sequence[str]) -> np.ndarray:
    """occurs_NV: which of the words that occur in at least 0.2 % of the texts (and twice) a text holds, the 1,000 commonest at most."""
    return _occurrence([set(text.split()) for text in texts])


def characters(texts: Sequence[str]) -> np.ndarray:
    """occurs_NV: the same for pieces of three characters, word borders marked, so that an ending is a piece of its own."""
    return _occurrence([{f" {text} "[start : start + 3] for start in range(len(text))} for text in texts])


def length(texts: Sequence[str]) -> np.ndarray:
    """The number of words of each text, [N, 1]."""
    return np.array([[float(len(text.split()))] for text in texts])


ATTACKERS: dict[str, Callable[[Sequence[str]], np.ndarray]] = {"words": words, "characters": characters, "length": length}


def _occurrence(terms_of_text: Sequence[set[str]]) -> np.ndarray:
    counts = Counter(term for terms in terms_of_text for term in terms)
    fewest = max(2, int(_SHORTEST_SHARE * len(terms_of_text)))
    # By count, then alphabet: the order of a set must not decide which terms are kept.
    kept = sorted((term for term, count in counts.items() if fewest <= count), key=lambda term: (-counts[term], term))[:_MOST_TERMS]
    column = {term: number for number, term in enumerate(kept)}
    occurs_NV = np.zeros((len(terms_of_text), len(kept)))
    for row, terms in enumerate(terms_of_text):
        occurs_NV[row, [column[term] for term in terms if term in column]] = 1.0
    return occurs_NV


def _attack(features_NV: np.ndarray, female_N: np.ndarray, cluster: np.ndarray, seed: int, n_permutations: int) -> Estimate:
    varying_NV = features_NV[:, np.ptp(features_NV, axis=0) > 0] if features_NV.shape[1] else features_NV
    n_clusters = len(np.unique(np.asarray(cluster)))
    if varying_NV.shape[1] == 0:
        return Estimate(0.5, 0.5, 0.5, len(female_N), n_clusters, "no term varies: nothing can leak this way")
    try:
        found: ProbeResult = probe(varying_NV, female_N, cluster, seed=seed, n_permutations=n_permutations)
    except InputError as error:
        return Estimate(np.nan, np.nan, np.nan, len(female_N), n_clusters, str(error))
    note = "; ".join(filter(None, [f"p = {found.p:.3g}" if np.isfinite(found.p) else "", found.note]))
    return Estimate(found.balanced_accuracy, found.low, found.high, found.n_rows, found.n_clusters, note)
