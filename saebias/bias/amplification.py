"""Where a skew grows: data -> the model's exact probability -> samples at temperature 1 -> greedy captions.

Greedy decoding turns a calibrated .6 into 1.0, so a skew read from greedy captions alone is the decoder's. Shapes: N rows, O contexts, R draws, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saebias.bias.rows import BiasRow, CaptionLabels, ExactProbabilities, bias_row, languages_of
from saebias.bias.stereotype import Reference
from saebias.stats.heterogeneity import group_ratios
from saebias.stats.resampling import Estimate, interval_of_draws

LEVELS = ("dataset", "exact", "sample", "greedy")


def amplification_rows(
    exact: ExactProbabilities,
    sampled: CaptionLabels | None,
    greedy: CaptionLabels | None,
    reference: Reference,
    *,
    seed: int,
    n_draws: int = 2000,
) -> tuple[BiasRow, ...]:
    """The skew of ambiguous images' captions at every level and its change from each level to the next, per language.

    With s_o the share of women among gendered captions of context o at a level and r_o the dataset's (`reference`):
    amplification_<level>              mean_o |s_o - 1/2|; sampling noise pushes it up, `note` says by about how much (bootstrap)
    amplification_signed_<level>       mean over contexts that lean in the dataset of sign(r_o - 1/2) (s_o - 1/2): noise does not push it, and what goes against
                                       the dataset counts against
    amplification_step_<level>, amplification_signed_step_<level>    the change from the level before it (dataset, exact, sample, greedy), paired by draw
    Intervals resample image clusters within contexts; the dataset share is what it is. Contexts without reference, or without a gendered caption at a level,
    are left out of every level and counted in the note. A level whose captions are None is left out.
    """
    rows: list[BiasRow] = []
    for language in languages_of(exact):
        levels = _levels(exact, language, {"sample": sampled, "greedy": greedy}, reference, seed, n_draws)
        rows.extend(_level_rows(levels, language))
    return tuple(rows)


@dataclass(frozen=True)
class _Levels:
    """Shares of women per context and level, with draws."""

    names_L: tuple[str, ...]
    share_OL: np.ndarray
    draws_ROL: np.ndarray
    n_images: int
    n_clusters: int
    note: str


def _levels(exact: ExactProbabilities, language: str, captions: dict[str, CaptionLabels | None], reference: Reference, seed: int, n_draws: int) -> _Levels:
    table = exact.ambiguous(language)
    given = {name: _gendered(labels, language) for name, labels in captions.items() if labels is not None}
    width = 1 + len(given)
    sources = [(table.p_female_N, np.ones(len(table)), table.context_N, table.cluster_N)]
    sources += [(labels.label_N == "F", np.ones(len(labels)), labels.context_N, labels.cluster_N) for labels in given.values()]
    # One wide table, a column per level: a draw then picks the same clusters at every level, so that steps are paired.
    top_NL = np.concatenate([_in_column(source[0], width, column) for column, source in enumerate(sources)])
    bottom_NL = np.concatenate([_in_column(source[1], width, column) for column, source in enumerate(sources)])
    contexts_N = np.concatenate([source[2].astype(str) for source in sources])
    clusters_N = np.concatenate([source[3].astype(str) for source in sources])
    found = group_ratios(top_NL, bottom_NL, contexts_N, clusters_N, n_draws=n_draws, seed=seed)
    dataset_O = np.array([reference.get((str(context), language), np.nan) for context in found.names_O])
    keep_O = np.isfinite(found.means_O).all(axis=1) & np.isfinite(dataset_O)
    left_out = [str(name) for name in found.names_O[~keep_O]]
    share_OL = np.concatenate([dataset_O[keep_O, None], found.means_O[keep_O]], axis=1)
    fixed_ROL = np.broadcast_to(dataset_O[keep_O, None], (n_draws, int(keep_O.sum()), 1))
    single_O = found.n_clusters_O < 2
    draws_RO = np.where(single_O[None, :, None], found.means_O, found.draws_RO)[:, keep_O]
    draws_ROL = np.concatenate([fixed_ROL, draws_RO], axis=2)
    alone = [str(name) for name in found.names_O[keep_O & single_O]]
    reasons = (("left out (no reference or no gendered caption)", left_out), ("taken as certain (one cluster)", alone))
    note = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in reasons if names)
    return _Levels(("dataset", "exact", *given), share_OL, draws_ROL, len(table), len(np.unique(table.cluster_N)), note)


def _gendered(labels: CaptionLabels, language: str) -> CaptionLabels:
    return labels.where((labels.gender_N == "A") & (labels.language_N == language) & np.isin(labels.label_N, ("F", "M")))


def _in_column(values_N: np.ndarray, width: int, column: int) -> np.ndarray:
    wide_NL = np.zeros((len(values_N), width))
    wide_NL[:, column] = values_N
    return wide_NL


def _level_rows(levels: _Levels, language: str) -> list[BiasRow]:
    rows: list[BiasRow] = []
    sign_O = np.sign(levels.share_OL[:, 0] - 0.5)
    leaning_O = sign_O != 0
    for kind in ("", "signed_"):
        if kind == "":
            value_OL, draws_ROL = np.abs(levels.share_OL - 0.5), np.abs(levels.draws_ROL - 0.5)
        else:
            value_OL, draws_ROL = (sign_O[:, None] * (levels.share_OL - 0.5))[leaning_O], (sign_O[:, None] * (levels.draws_ROL - 0.5))[:, leaning_O]
        if len(value_OL) == 0:
            reason = "no context leans in the dataset" if kind else "no context is left"
            rows.append(_empty(f"amplification_{kind}exact", language, levels, reason))
            continue
        rows.extend(_rows_of_kind(kind, value_OL.mean(axis=0), _mean_over_contexts(draws_ROL), levels, language))
    return rows


def _mean_over_contexts(draws_ROL: np.ndarray) -> np.ndarray:
    """draws_RL: a context without a gendered caption in a draw is left out of that draw, at every level alike."""
    defined_RO1 = np.isfinite(draws_ROL).all(axis=2, keepdims=True)
    count_R1 = defined_RO1.sum(axis=1)
    sums_RL = np.where(defined_RO1, draws_ROL, 0.0).sum(axis=1)
    return np.divide(sums_RL, count_R1, out=np.full_like(sums_RL, np.nan), where=count_R1 > 0)


def _rows_of_kind(kind: str, value_L: np.ndarray, draws_RL: np.ndarray, levels: _Levels, language: str) -> list[BiasRow]:
    rows = []
    for position, name in enumerate(levels.names_L):
        noise = float(np.nanmean(draws_RL[:, position]) - value_L[position]) if kind == "" else 0.0
        extra = f"sampling adds about {noise:.3f}" if noise > 0.005 else ""
        rows.append(_row(f"amplification_{kind}{name}", language, value_L[position], draws_RL[:, position], levels, extra))
    for position in range(1, len(levels.names_L)):
        name = f"amplification_{kind}step_{levels.names_L[position]}"
        rows.append(_row(name, language, value_L[position] - value_L[position - 1], draws_RL[:, position] - draws_RL[:, position - 1], levels, ""))
    return rows


def _row(metric: str, language: str, value: float, draws_R: np.ndarray, levels: _Levels, extra: str) -> BiasRow:
    low, high, reason = interval_of_draws(float(value), draws_R)
    note = "; ".join(filter(None, [levels.note, extra, reason]))
    return bias_row(metric, language, Estimate(float(value), low, high, levels.n_images, levels.n_clusters, note), gender="A")


def _empty(metric: str, language: str, levels: _Levels, reason: str) -> BiasRow:
    note = "; ".join(filter(None, [reason, levels.note]))
    return bias_row(metric, language, Estimate(np.nan, np.nan, np.nan, levels.n_images, levels.n_clusters, note), gender="A")
