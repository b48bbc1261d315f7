"""Form or meaning: which latents follow how an Arabic word looks, and which follow who is meant, where the two part ways.

خليفة and علامة look feminine and mean men; أم and حامل mean women without looking it; شخص is masculine in form and says nothing. Only words on which
form and meaning do not go together can tell a latent of form from one of meaning, so each is tested with the other held fixed.
A noun that is said of women and of men alike (an English profession) goes further: the very same word, and only who is meant differs.
Shapes: N word tokens, F latents, U units exchanged (lexemes, or picture groups), R permutations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from saebias.errors import InputError
from saebias.mechanistic.codes import SparseCodes, rank_sums
from saebias.stats.checks import cluster_index, same_rows
from saebias.stats.effects import permute_within
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

    codes: np.ndarray | SparseCodes
    is_feminine_form_N: np.ndarray
    meaning_N: np.ndarray
    lexeme_N: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", SparseCodes.of(self.codes, "word codes"))
        same_rows(codes=self.codes, form=self.is_feminine_form_N, meaning=self.meaning_N, lexeme=self.lexeme_N)
        unknown = sorted(set(np.unique(self.meaning_N).tolist()) - {"F", "M", "N"})
        if unknown:
            raise InputError(f"meaning {unknown[0]!r} is none of F, M, N; label the word or leave it out")


@dataclass(frozen=True, eq=False)
class SharedNouns:
    """Tokens of nouns that are said of women and of men in one form: the noun, whether a woman is meant, and the picture group."""

    codes: np.ndarray | SparseCodes
    noun_N: np.ndarray
    is_female_N: np.ndarray
    cluster_N: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", SparseCodes.of(self.codes, "noun codes"))
        same_rows(codes=self.codes, noun=self.noun_N, is_female=self.is_female_N, cluster=self.cluster_N)


@dataclass(frozen=True)
class _GrammarAnalyzer:
    q: float = 0.05
    n_permutations: int = 1999

    def _test(self, sae_id: str, codes: SparseCodes, y_N: np.ndarray, held_N: np.ndarray, unit_N: np.ndarray, follows: str, seed: int) -> list[GrammarRow]:
        """Stratified rank association, labels permuted among units (lexemes, picture groups) within strata of the variable held fixed."""
        if not codes.n_latents:
            raise InputError(f"codes have no latents (shape ({codes.n_rows}, 0)); hand in a column for each")
        useful = np.isin(held_N, [stratum for stratum in np.unique(held_N) if len(np.unique(y_N[held_N == stratum])) == 2])
        if not useful.any():
            raise InputError(f"form and meaning go together in all {len(y_N)} words; only words where they part can tell which one a latent follows")
        codes, y_N, unit_N = codes.rows(useful), y_N[useful].astype(bool), unit_N[useful]
        held_N, _ = cluster_index(held_N[useful])
        index_N, n_units = cluster_index(unit_N)
        y_U = _of_units(y_N, held_N, index_N, n_units, unit_N)
        self._refuse_few(y_U, held_N[np.unique(index_N, return_index=True)[1]])
        permuted_RU = permute_within(y_U, held_N, index_N, self.n_permutations, seed)
        rows_US = np.zeros((n_units, int(held_N.max()) + 1))
        np.add.at(rows_US, (index_N, held_N), 1)
        association_F, p_F = np.zeros(codes.n_latents), np.ones(codes.n_latents)
        # Largest possible sum for this labelling: as if the latent ranked all labelled words of each stratum first.
        ideal = rank_sums(SparseCodes.of(y_N[:, None].astype(np.float64)), slice(0, 1), index_N, n_units, held_N, scale=True)
        largest = float(ideal.of_labels(y_U[None].astype(np.float64), y_U[None] @ rows_US)[0, 0])
        for block in codes.blocks():
            # A latent that is silent on these words has the sum 0 under every labelling: p stays 1, and it counts as tested.
            live = block.start + np.flatnonzero(codes.fires_F[block])
            sums = rank_sums(SparseCodes(codes.matrix[:, live]), slice(0, len(live)), index_N, n_units, held_N, scale=True)
            observed_F = sums.of_labels(y_U[None].astype(np.float64), y_U[None] @ rows_US)[0]
            association_F[live] = observed_F / largest
            count_F = np.ones(len(observed_F))
            for labels_RU in np.array_split(permuted_RU.astype(np.float64), max(1, -(-self.n_permutations // 256))):
                count_F += (np.abs(sums.of_labels(labels_RU, labels_RU @ rows_US)) >= np.abs(observed_F) * (1 - 1e-9)).sum(axis=0)
            p_F[live] = count_F / (self.n_permutations + 1)
        q_F = benjamini_hochberg(p_F)
        columns = enumerate(zip(association_F.tolist(), p_F.tolist(), q_F.tolist(), strict=True))
        return [GrammarRow(sae_id, latent, follows, association, p, q, q <= self.q, len(y_N), n_units) for latent, (association, p, q) in columns]

    def _refuse_few(self, y_U: np.ndarray, held_U: np.ndarray) -> None:
        """Raise InputError when so few labellings are possible that no latent could be found, however well it follows them."""
        labellings = math.prod(math.comb(int((held_U == stratum).sum()), int(y_U[held_U == stratum].sum())) for stratum in np.unique(held_U))
        if 1 / labellings > self.q:
            raise InputError(
                f"{len(y_U)} words or groups can be labelled in {labellings} ways: p cannot fall below {1 / labellings:.2g}, nothing could be found"
            )


@dataclass(frozen=True)
class MorphologicalGenderAnalyzer(_GrammarAnalyzer):
    """Finds latents that follow form (suffix, prefix, clitic, agreement) among words of equal meaning."""

    def read(self, sae_id: str, words: Words, *, seed: int) -> list[GrammarRow]:
        """One row per latent: association with feminine form, meaning held fixed. InputError when no meaning occurs in both forms."""
        return self._test(sae_id, SparseCodes.of(words.codes), words.is_feminine_form_N, words.meaning_N, words.lexeme_N, "form", seed)


@dataclass(frozen=True)
class SemanticGenderAnalyzer(_GrammarAnalyzer):
    """Finds latents that follow meaning among words of equal form; words that say nothing about gender are left out."""

    def read(self, sae_id: str, words: Words, *, seed: int) -> list[GrammarRow]:
        """One row per latent: association with female against male meaning, form held fixed. InputError when no form occurs with both meanings."""
        says = words.meaning_N != "N"
        if not says.any():
            raise InputError("no word means a woman or a man; hand in words with meaning F and M")
        codes, female_N = SparseCodes.of(words.codes).rows(says), words.meaning_N[says] == "F"
        return self._test(sae_id, codes, female_N, words.is_feminine_form_N[says], words.lexeme_N[says], "meaning", seed)

    def read_shared(self, sae_id: str, nouns: SharedNouns, *, seed: int) -> list[GrammarRow]:
        """One row per latent: association with a woman being meant, the noun held fixed, labels permuted among picture groups of one noun.

        InputError when no noun is said of both, or when a group shows both for one noun.
        """
        unit_N = np.array([f"{cluster}|{noun}" for cluster, noun in zip(nouns.cluster_N, nouns.noun_N, strict=True)])
        return self._test(sae_id, SparseCodes.of(nouns.codes), nouns.is_female_N, nouns.noun_N, unit_N, "meaning", seed)


def _of_units(y_N: np.ndarray, held_N: np.ndarray, index_N: np.ndarray, n_units: int, unit_N: np.ndarray) -> np.ndarray:
    """The label of each unit; InputError for one that occurs with two labels or strata."""
    _, first_U = np.unique(index_N, return_index=True)
    mixed_N = (y_N != y_N[first_U][index_N]) | (held_N != held_N[first_U][index_N])
    if mixed_N.any():
        raise InputError(f"lexeme {str(unit_N[mixed_N][0])!r} occurs with two forms or meanings; name its forms apart (طباخ, طباخة)")
    assert len(first_U) == n_units
    return y_N[first_U]
