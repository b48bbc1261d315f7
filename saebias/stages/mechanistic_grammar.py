"""`mechanistic --only grammar`: which latents follow the form of words, and which follow who is meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import InputError
from saebias.pipeline.stage import StageContext
from saebias.stages.mechanistic_codes import LayerCodes, latents_stage
from saebias.stages.mechanistic_latents import Tables, run_layers

if TYPE_CHECKING:
    from saebias.mechanistic.grammar import GrammarRow


def run_grammar(ctx: StageContext) -> None:
    """Per layer and language the tests of form and of meaning; a test that the words do not allow is a row without numbers, with the reason."""
    by_language: dict[str, list[dict[str, Any]]] = {}
    for row in ctx.table("caption_words").to_pylist():
        by_language.setdefault(row["language"], []).append(row)

    def compute(layer: LayerCodes) -> Tables:
        summary: list[dict[str, Any]] = []
        latents: list[dict[str, Any]] = []
        for language, words in sorted(by_language.items(), reverse=True):
            for evidence, test in _tests(layer, words, ctx.cfg.mechanistic.latent_permutations, ctx.seed(f"{layer.hook}-{language}")).items():
                place = {"sae_id": layer.sae_id, "layer": layer.layer, "language": language, "evidence": evidence}
                found, reason = _tried(test)
                summary.append({**place, **_summary(evidence, found, reason, layer.n_latents)})
                latents += [{**place, **_latent_row(row)} for row in found if row.p < 1]
        return {"grammar_tests": summary, "latent_grammar": latents}

    run_layers(ctx, "telling form from meaning", compute)


def _tests(layer: LayerCodes, words: list[dict[str, Any]], n_permutations: int, seed: int) -> Mapping[str, Callable[[], list[GrammarRow]]]:
    """The tests that one language's words allow to try, by the evidence they rest on."""
    from saebias.mechanistic.grammar import MorphologicalGenderAnalyzer, SemanticGenderAnalyzer, SharedNouns, Words

    column = {name: np.array([row[name] for row in words]) for name in ("row", "word", "meaning", "is_feminine_form")}
    codes = layer.at(column["row"])
    # One form may be used with two meanings (a picture's noun and a thing's): they are two lexemes.
    lexeme = np.array([f"{row['word']}/{row['meaning']}" for row in words])
    every = Words(codes, column["is_feminine_form"], column["meaning"], lexeme)
    shared = np.array([row["rule"] is not None and row["meaning"] == "N" and row["shows"] in ("F", "M") for row in words])

    def nouns() -> list[GrammarRow]:
        if not shared.any():
            raise InputError("no person noun is said of women and of men in one form")
        female = np.array([row["shows"] == "F" for row in words])[shared]
        cluster = np.array([row["cluster_id"] for row in words])[shared]
        tool = SemanticGenderAnalyzer(n_permutations=n_permutations)
        return tool.read_shared(layer.sae_id, SharedNouns(codes.rows(shared), column["word"][shared], female, cluster), seed=seed)

    return {
        "form of words": lambda: MorphologicalGenderAnalyzer(n_permutations=n_permutations).read(layer.sae_id, every, seed=seed),
        "meaning of words": lambda: SemanticGenderAnalyzer(n_permutations=n_permutations).read(layer.sae_id, every, seed=seed),
        "meaning of shared nouns": nouns,
    }


def _tried(test: Callable[[], list[GrammarRow]]) -> tuple[list[GrammarRow], str | None]:
    try:
        return test(), None
    except InputError as error:
        return [], str(error)


def _summary(evidence: str, found: list[GrammarRow], reason: str | None, n_latents: int) -> dict[str, Any]:
    return {
        "follows": "form" if evidence.startswith("form") else "meaning",
        "n_selected": sum(row.selected for row in found) if found else None,
        "strongest": max((abs(row.association) for row in found), default=None),
        "smallest_p": min((row.p for row in found), default=None),
        "n_latents": n_latents,
        "n_words": found[0].n_words if found else 0,
        "n_units": found[0].n_clusters if found else 0,
        "note": reason,
    }


def _latent_row(row: GrammarRow) -> dict[str, Any]:
    return {"latent": row.latent, "follows": row.follows, "association": row.association, "p": row.p, "q": row.q, "selected": row.selected}


MECHANISTIC_GRAMMAR = latents_stage(
    "grammar", run_grammar, "form of words, or who is meant", ("grammar_tests", "latent_grammar"), reads=("mechanistic.latent_permutations",)
)
