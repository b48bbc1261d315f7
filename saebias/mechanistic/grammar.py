"""Form or meaning: which latents follow how an Arabic word looks, and which follow who is meant, where the two part ways.

خليفة and علامة look feminine and mean men; أم and حامل mean women without looking it; شخص is masculine in form and says nothing. Only words on which
form and meaning do not go together can tell a latent of form from one of meaning, so each is tested with the other held fixed.
Shapes: N word tokens, F latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saebias.errors import InputError
from saebias.stats.checks import cluster_index, finite, same_rows
from saebias.stats.effects import permute_within, rank_columns
from saebias.stats.multiple import benjamini_hochberg


@dataclass(frozen=True)
class GrammarRow:
    """One latent: `association` in -1..1 with the variable, the other held fixed; > 0: fires more on feminine form (female meaning)."""

    sae_id: str
    latent: int
    follows: str
    association: float
    p: float
    q: float
    selected: bool
    n_words: int
    n_clusters: int


@dataclass(frozen=True, eq=False)
class Words:
    """Word tokens with their form (feminine marking or not), their meaning (F, M, N = says nothing), and the lexeme that groups them."""

    codes_NF: np.ndarray
    is_feminine_form_N: np.ndarray
    meaning_N: np.ndarray
    lexeme_N: np.ndarray

    def __post_init__(self) -> None:
        finite(self.codes_NF, "word codes")
        same_rows(codes=self.codes_NF, form=self.is_feminine_form_N, meaning=self.meaning_N, lexeme=self.lexeme_N)
        unknown = sorted(set(np.unique(self.meaning_N).tolist()) - {"F", "M", "N"})
        if unknown:
            raise InputError(f"meaning {unknown[0]!r} is none of F, M, N; label the word or leave it out")


@dataclass(frozen=True)
class _GrammarAnalyzer:
    q: float = 0.05
    n_permutations: int = 1999

    def _test(self, sae_id: str, codes_NF: np.ndarray, y_N: np.ndarray, held_N: np.ndarray, lexeme_N: np.ndarray, follows: str, seed: int) -> list[GrammarRow]:
        """Stratified rank association, labels permuted among lexemes within strata of the variable held fixed."""
        useful_N = np.isin(held_N, [stratum for stratum in np.unique(held_N) if len(np.unique(y_N[held_N == stratum])) == 2])
        if not useful_N.any():
            raise InputError(f"form and meaning go together in all {len(y_N)} words; only words where they part can tell which one a latent follows")
        codes_NF, y_N, held_N, lexeme_N = (column[useful_N] for column in (codes_NF, y_N, held_N, lexeme_N))
        index_N, n_lexemes = cluster_index(lexeme_N)
        centred_NF = _ranks_within(codes_NF, held_N)
        y_G, first_G = _of_lexemes(y_N, held_N, index_N, n_lexemes, lexeme_N)
        permuted_RG = permute_within(y_G, cluster_index(held_N)[0], index_N, self.n_permutations, seed)
        sums_GF = np.stack([np.bincount(index_N, weights=column, minlength=n_lexemes) for column in centred_NF.T], axis=1)
        observed_F = y_G @ sums_GF
        drawn_RF = permuted_RG.astype(np.float64) @ sums_GF
        p_F = (1 + (np.abs(drawn_RF) >= np.abs(observed_F) * (1 - 1e-9)).sum(axis=0)) / (self.n_permutations + 1)
        # Largest possible sum for this labelling: as if the latent ranked all labelled words of each stratum first.
        largest = _ranks_within(y_N[:, None].astype(np.float64), held_N)[:, 0] @ y_N
        q_F = benjamini_hochberg(p_F)
        counts = len(y_N), len(first_G)
        columns = enumerate(zip((observed_F / largest).tolist(), p_F.tolist(), q_F.tolist(), strict=True))
        return [GrammarRow(sae_id, latent, follows, association, p, q, q <= self.q, *counts) for latent, (association, p, q) in columns]


@dataclass(frozen=True)
class MorphologicalGenderAnalyzer(_GrammarAnalyzer):
    """Finds latents that follow form (suffix, prefix, clitic, agreement) among words of equal meaning."""

    def read(self, sae_id: str, words: Words, *, seed: int) -> list[GrammarRow]:
        """One row per latent: association with feminine form, meaning held fixed. InputError when no meaning occurs in both forms."""
        return self._test(sae_id, words.codes_NF, words.is_feminine_form_N, words.meaning_N, words.lexeme_N, "form", seed)


@dataclass(frozen=True)
class SemanticGenderAnalyzer(_GrammarAnalyzer):
    """Finds latents that follow meaning among words of equal form; words that say nothing about gender are left out."""

    def read(self, sae_id: str, words: Words, *, seed: int) -> list[GrammarRow]:
        """One row per latent: association with female against male meaning, form held fixed. InputError when no form occurs with both meanings."""
        says_N = words.meaning_N != "N"
        if not says_N.any():
            raise InputError("no word means a woman or a man; hand in words with meaning F and M")
        female_N = words.meaning_N[says_N] == "F"
        return self._test(sae_id, words.codes_NF[says_N], female_N, words.is_feminine_form_N[says_N], words.lexeme_N[says_N], "meaning", seed)


def _ranks_within(codes_NF: np.ndarray, held_N: np.ndarray) -> np.ndarray:
    """Ranks within each stratum, centred and scaled to -1..1, so that strata of different size count by their words."""
    ranks_NF = np.zeros(codes_NF.shape)
    for stratum in np.unique(held_N):
        of_stratum = held_N == stratum
        n = int(of_stratum.sum())
        ranks_NF[of_stratum] = (rank_columns(codes_NF[of_stratum]) - (n + 1) / 2) * 2 / n
    return ranks_NF


def _of_lexemes(y_N: np.ndarray, held_N: np.ndarray, index_N: np.ndarray, n_lexemes: int, lexeme_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(label, first row) of each lexeme; InputError for one that occurs with two labels or strata."""
    _, first_G = np.unique(index_N, return_index=True)
    mixed_N = (y_N != y_N[first_G][index_N]) | (held_N != held_N[first_G][index_N])
    if mixed_N.any():
        raise InputError(f"lexeme {lexeme_N[mixed_N][0]!r} occurs with two forms or meanings; name its forms apart (طباخ, طباخة)")
    return y_N[first_G].astype(bool), first_G
