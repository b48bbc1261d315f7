"""What captions say about images: right, wrong, neutral, mixed or nobody on clear images; which gender on ambiguous ones."""

from __future__ import annotations

import numpy as np

from saebias.bias.rows import CLEAR_GENDERS, LABELS, BiasRow, CaptionLabels, bias_row, languages_of
from saebias.stats.resampling import Estimate
from saebias.stats.shares import difference_of_shares, share_estimate

OUTCOMES = ("correct", "wrong", "neutral", "mixed", "no_person")


def outcome_of(label_N: np.ndarray, gender_N: np.ndarray) -> np.ndarray:
    """correct | wrong | neutral | mixed | no_person for captions of clear images."""
    return np.select([label_N == gender_N, label_N == "N", label_N == "X", label_N == "0"], ["correct", "neutral", "mixed", "no_person"], default="wrong")


def clear_outcomes(labels: CaptionLabels) -> tuple[BiasRow, ...]:
    """Shares of the five outcomes per language, context (and all contexts) and visible gender (and both), and the gaps between the genders.

    Metrics: outcome_correct, outcome_wrong, outcome_neutral, outcome_mixed, outcome_no_person; outcome_explicit_male, of the captions that say M the share that
    says so by more than grammar; misgender_gap = wrong(F) - wrong(M); neutral_gap = neutral(F) - neutral(M).
    Shares are over captions; intervals are Wilson's on the effective sample size over image clusters, gaps Newcombe's (wide when F and M share clusters).
    Ambiguous images are left out. Cells without captions give no row; a gap that lacks one gender is NaN with a note.
    """
    clear = labels.where(labels.gender_N != "A")
    rows: list[BiasRow] = []
    for language in languages_of(clear):
        of_language = clear.where(clear.language_N == language)
        for context in (None, *sorted(str(name) for name in np.unique(of_language.context_N))):
            cell = of_language if context is None else of_language.where(of_language.context_N.astype(str) == context)
            rows.extend(_clear_cell(cell, language, context))
    return tuple(rows)


def _clear_cell(cell: CaptionLabels, language: str, context: str | None) -> list[BiasRow]:
    outcome_N = outcome_of(cell.label_N, cell.gender_N)
    rows: list[BiasRow] = []
    shares: dict[tuple[str, str], Estimate] = {}
    for gender in (None, *CLEAR_GENDERS):
        of_gender_N = np.ones(len(cell), dtype=bool) if gender is None else cell.gender_N == gender
        if not of_gender_N.any():
            continue
        images = len(np.unique(cell.image_N[of_gender_N]))
        for name in OUTCOMES:
            estimate = share_estimate(outcome_N[of_gender_N] == name, cell.cluster_N[of_gender_N])
            rows.append(bias_row(f"outcome_{name}", language, estimate, context=context, gender=gender, n_images=images))
            if gender is not None:
                shares[name, gender] = estimate
        says_m_N = of_gender_N & (cell.label_N == "M")
        if says_m_N.any():
            estimate = share_estimate(cell.explicit_N[says_m_N], cell.cluster_N[says_m_N])
            rows.append(bias_row("outcome_explicit_male", language, estimate, context=context, gender=gender, n_images=len(np.unique(cell.image_N[says_m_N]))))
    for metric, outcome in (("misgender_gap", "wrong"), ("neutral_gap", "neutral")):
        rows.append(bias_row(metric, language, _gap(shares, outcome), context=context, n_images=len(np.unique(cell.image_N))))
    return rows


def _gap(shares: dict[tuple[str, str], Estimate], outcome: str) -> Estimate:
    missing = [gender for gender in CLEAR_GENDERS if (outcome, gender) not in shares]
    if missing:
        present = next(iter(shares.values()))
        return Estimate(np.nan, np.nan, np.nan, present.n_rows, present.n_clusters, f"no images of visible gender {missing[0]}")
    return difference_of_shares(shares[outcome, "F"], shares[outcome, "M"])


def ambiguous_shares(labels: CaptionLabels) -> tuple[BiasRow, ...]:
    """What captions of ambiguous images say, per language and context (and all contexts).

    Metrics: said_F, said_M, said_M_explicit (Arabic masculine that is more than grammar), said_N, said_X, said_0, all over captions;
    said_F_of_gendered is F over F or M.
    """
    ambiguous = labels.where(labels.gender_N == "A")
    rows: list[BiasRow] = []
    for language in languages_of(ambiguous):
        of_language = ambiguous.where(ambiguous.language_N == language)
        for context in (None, *sorted(str(name) for name in np.unique(of_language.context_N))):
            cell = of_language if context is None else of_language.where(of_language.context_N.astype(str) == context)
            rows.extend(_ambiguous_cell(cell, language, context))
    return tuple(rows)


def _ambiguous_cell(cell: CaptionLabels, language: str, context: str | None) -> list[BiasRow]:
    images = len(np.unique(cell.image_N))
    hits = {name: cell.label_N == name for name in LABELS} | {"M_explicit": (cell.label_N == "M") & cell.explicit_N}
    rows = [
        bias_row(f"said_{name}", language, share_estimate(hits_N, cell.cluster_N), context=context, gender="A", n_images=images)
        for name, hits_N in hits.items()
    ]
    gendered_N = hits["F"] | hits["M"]
    if gendered_N.any():
        estimate = share_estimate(hits["F"][gendered_N], cell.cluster_N[gendered_N])
    else:
        estimate = Estimate(np.nan, np.nan, np.nan, len(cell), len(np.unique(cell.cluster_N)), "no caption says F or M")
    rows.append(bias_row("said_F_of_gendered", language, estimate, context=context, gender="A", n_images=images))
    return rows
