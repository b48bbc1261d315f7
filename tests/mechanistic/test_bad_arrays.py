"""Whatever is handed to the tools, they answer, or refuse in one line: never a trace from inside numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from saebias.errors import InputError, SaebiasError
from saebias.identifiers import FeatureRef
from saebias.mechanistic.alignment import PairedActivations
from saebias.mechanistic.contrastive import causal_transfer_row, latent_effect_rows
from saebias.mechanistic.feature_alignment import CrossLingualFeatureAligner, DictionaryCodes
from saebias.mechanistic.gender_projection import fit_gender_axes
from saebias.mechanistic.grammar import MorphologicalGenderAnalyzer, Words
from saebias.mechanistic.interaction import InteractionPatternAnalyzer
from saebias.mechanistic.language_profile import LanguageFeatureProfile
from saebias.mechanistic.language_specific import LanguageSpecificFeatureIdentifier
from saebias.mechanistic.probes import ProbePlace, ProbeRows, TransformerProbeAnalyzer
from saebias.mechanistic.tuned_lens import TunedLensConfig, fit_tuned_lens

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
N, F = 48, 6


def arrays() -> Arrays:
    cluster = np.arange(N) // 2
    return np.maximum(np.random.default_rng(0).standard_normal((N, F)), 0), np.where(cluster % 2 == 0, "F", "M"), cluster


def with_value(value: float) -> Callable[[Arrays], Arrays]:
    def changed(given: Arrays) -> Arrays:
        codes = given[0].copy()
        codes[3, 2] = value
        return codes, *given[1:]

    return changed


CASES: dict[str, Callable[[Arrays], Arrays]] = {
    "NaN": with_value(np.nan),
    "infinite": with_value(np.inf),
    "constant": lambda a: (np.ones_like(a[0]), *a[1:]),
    "silent": lambda a: (np.zeros_like(a[0]), *a[1:]),
    "one class": lambda a: (a[0], np.full(N, "F"), a[2]),
    "one row": lambda a: (a[0][:1], a[1][:1], a[2][:1]),
    "a label short": lambda a: (a[0], a[1][:-1], a[2]),
    "a cluster short": lambda a: (a[0], a[1], a[2][:-1]),
    "bool": lambda a: (a[0] > 0, *a[1:]),
    "int": lambda a: ((10 * a[0]).astype(int), *a[1:]),
    "empty": lambda a: (a[0][:0], a[1][:0], a[2][:0]),
    "no column": lambda a: (a[0][:, :0], *a[1:]),
    "a vector": lambda a: (a[0][:, 0], *a[1:]),
    "lists": lambda a: (a[0].tolist(), a[1].tolist(), a[2].tolist()),
    "one cluster": lambda a: (a[0], a[1], np.zeros(N, dtype=int)),
    "NaN cluster": lambda a: (a[0], a[1], np.where(np.arange(N) == 2, np.nan, a[2].astype(float))),
}


def named(codes: np.ndarray) -> tuple[FeatureRef, ...]:
    return tuple(FeatureRef("a", number) for number in range(np.shape(codes)[1] if np.ndim(codes) == 2 else F))


def words(codes: np.ndarray, gender: np.ndarray) -> Words:
    lexeme = np.arange(len(gender)) % 12
    return Words(codes, lexeme % 2 == 0, np.array(["F", "M", "N"])[lexeme % 3], lexeme)


def tuned(codes: np.ndarray, gender: np.ndarray) -> object:
    x_LND = torch.tensor(np.asarray(codes), dtype=torch.float32)[None]
    return fit_tuned_lens(x_LND, x_LND[0], lambda x: x, np.arange(len(gender)) % 3 == 0, seed=1, config=TunedLensConfig(steps=2))


def probed(codes: np.ndarray, gender: np.ndarray, cluster: np.ndarray) -> object:
    rows = ProbeRows(codes, np.asarray(gender) == "F", np.arange(len(gender)), cluster, cluster, np.zeros(len(gender)))
    return TransformerProbeAnalyzer(n_permutations=5, n_control=2).read({ProbePlace("en", "decision", 0): rows}, seed=1)


TOOLS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], object]] = {
    "profile": lambda x, g, c: LanguageFeatureProfile(n_permutations=19).read("a", "en", x, g, c, seed=1).row(),
    "specific": lambda x, g, c: LanguageSpecificFeatureIdentifier(n_permutations=19).read("a", x, x, g, c, seed=1),
    "aligner": lambda x, g, c: CrossLingualFeatureAligner(n_permutations=3).read(DictionaryCodes(named(x), x), DictionaryCodes(named(x), x), c, seed=1),
    "interactions": lambda x, g, c: InteractionPatternAnalyzer(n_permutations=19).read(named(x), x, g, c),
    "grammar": lambda x, g, c: MorphologicalGenderAnalyzer(n_permutations=19).read("a", words(x, g), seed=1),
    "paired": lambda x, g, c: PairedActivations(0, x, x, g, c).clear,
    "latent effects": lambda x, g, c: latent_effect_rows(0, x, x, g, c, k=2, n_permutations=9),
    "transfer": lambda x, g, c: causal_transfer_row(0, "m", np.asarray(x).ravel()[: len(g)], np.zeros(len(g)), c, margin=0.1, seed=1),
    "probes": probed,
    "axes": lambda x, g, c: fit_gender_axes(x, ["en", "ar"] * (len(g) // 2), g),
    "tuned lens": lambda x, g, c: tuned(x, g),
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("case", CASES)
def test_an_array_is_read_or_refused_in_one_line(tool: str, case: str) -> None:
    try:
        TOOLS[tool](*CASES[case](arrays()))
    except SaebiasError as error:
        assert "\n" not in str(error)
    else:
        assert case not in ("NaN", "infinite", "empty") or tool == "transfer"


def test_a_row_without_a_cluster_is_named() -> None:
    with pytest.raises(InputError, match=r"1 of 48 rows have no cluster \(NaN\)"):
        TOOLS["specific"](*CASES["NaN cluster"](arrays()))


def test_a_latent_that_is_everywhere_the_same_has_no_correlation_and_a_reason() -> None:
    codes, gender, cluster = arrays()
    codes[:, 0] = 1
    rows = InteractionPatternAnalyzer(n_permutations=99).read(named(codes), codes, gender, cluster)
    of_constant = [row for row in rows if row.a.index == 0]
    assert len(of_constant) == F - 1 and all(np.isnan(row.p) and np.isnan(row.correlation_women) for row in of_constant)
    assert all("equally active on all picture groups" in row.note for row in of_constant)
