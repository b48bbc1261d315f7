"""Planted rows of the tools on latents: sixteen latents a layer, the first ones of both languages, the next of one, the last dead."""

from __future__ import annotations

import math

import numpy as np

LAYERS, LATENTS = 8, 16
LANGUAGES = ("en", "ar")
COUNTS: dict[str, object] = {"n_images": 192, "n_clusters": 96}
HELD_OUT = {"split": "select+report"}
# Latents that carry gender: two in both languages, two in each alone; odd ones stand for men.
CARRIES = {"en": (0, 1, 2, 3), "ar": (0, 1, 4, 5)}
DEAD = 15


def latent_tool_rows(rng: np.random.Generator) -> dict[str, list[dict[str, object]]]:
    """All tables of the tools on latents."""
    found: dict[str, list[dict[str, object]]] = {}
    for layer in range(LAYERS):
        place: dict[str, object] = {"sae_id": f"run/L{layer:02d}", "layer": layer}
        grown = 1 / (1 + math.exp(-(layer - 3.5)))
        for table, rows in {**_profiles(place, grown), **_languages(place, grown, rng), **_pairs(place, rng), **_grammar(place, grown)}.items():
            found.setdefault(table, []).extend(rows)
    found["causal_pairs"] = _causal(rng)
    return found


def _profiles(place: dict[str, object], grown: float) -> dict[str, list[dict[str, object]]]:
    summary: list[dict[str, object]] = []
    latents: list[dict[str, object]] = []
    for language in LANGUAGES:
        groups = {latent: ("female", "male")[latent % 2] for latent in CARRIES[language]}
        of = [groups.get(latent, "dead" if latent == DEAD else "neutral") for latent in range(LATENTS)]
        counts = {f"n_{group}": of.count(group) for group in ("female", "male", "neutral", "dead")}
        numbers = {"n_latents": LATENTS, "n_live": LATENTS - 1, "density": 0.1, "l0": 1.5, "n_gendered_permuted": 0}
        numbers |= {"n_stereotype_female": 1, "n_stereotype_male": 0, "n_stereotype_permuted": 0, "stereotype_spread": 0.2, "n_contexts": 12}
        summary.append({**place, "language": language, **HELD_OUT, **counts, **numbers, **COUNTS})
        for latent, group in enumerate(of):
            auroc = {"female": 0.5 + 0.45 * grown, "male": 0.5 - 0.45 * grown, "neutral": 0.5, "dead": None}[group]
            latents.append(
                {**place, "latent": latent, "language": language, "gender_group": group, "firing_rate": 0.0 if group == "dead" else 0.1, "active_mean": None}
                | {"auroc": auroc, "low": None if auroc is None else auroc - 0.05, "high": None if auroc is None else auroc + 0.05, "p": 0.5, "q": 0.5}
                | {"stereotype_group": "female" if latent == 0 else group if group == "dead" else "neutral"}
                | {"top_contexts": "cook", "note": "never fires on these images" if group == "dead" else None}
            )
    return {"language_profiles": summary, "latent_profiles": latents}


def _languages(place: dict[str, object], grown: float, rng: np.random.Generator) -> dict[str, list[dict[str, object]]]:
    verdicts, matches = [], []
    for latent in range(LATENTS):
        inside = {language: latent in CARRIES[language] for language in LANGUAGES}
        verdict = "shared" if all(inside.values()) else "en_only" if inside["en"] else "ar_only" if inside["ar"] else "none"
        if latent == 6:
            verdict = "unclear"
        row: dict[str, object] = {**place, "latent": latent, "verdict": verdict, "q_both": 0.01 if verdict == "shared" else 0.9, **HELD_OUT, **COUNTS}
        for language in LANGUAGES:
            auroc = 0.5 + (0.4 * grown * (1 - 2 * (latent % 2)) if inside[language] else 0.0)
            row |= {f"auroc_{language}": auroc, f"low_{language}": auroc - 0.04, f"high_{language}": auroc + 0.04, f"q_{language}": 0.01}
        verdicts.append(row)
        correlation = float(rng.uniform(0.1, 0.3) + 0.6 * grown)
        matches.append(
            {**place, "latent_en": latent, "latent_ar": latent if latent < 8 else (latent + 1 - 8) % 8 + 8, "correlation": correlation}
            | {"score": None if latent == 9 else correlation / 0.8, "decoder_cosine": 1.0, "threshold": 0.3, "is_match": correlation > 0.3}
            | {"is_same_latent": latent < 8, **HELD_OUT, **COUNTS, "note": "no reliability to correct by" if latent == 9 else None}
        )
    rungs = [
        {"layer": place["layer"], "rung": rung, "measure": measure, "value": value, "low": value - 0.06, "high": value + 0.06, "floor": floor, "ceiling": 1.0}
        | {"p": 0.005 if rung in ("L1", "L2") else None, **COUNTS, "note": None}
        for rung, measure, value, floor in (
            ("L1", "probe_transfer_en_ar", 0.5 + 0.4 * grown, 0.55),
            ("L1", "probe_transfer_ar_en", 0.5 + 0.45 * grown, 0.55),
            ("L2", "direction_cosine", 0.2 + 0.6 * grown, 0.3),
            ("L3", "latent_rank_correlation", 0.3 * grown, 0.0),
            ("L3", "latent_top_overlap", 0.5 * grown, 0.13),
        )
    ]
    verdict = {"layer": place["layer"], "verdict": "hierarchical", "angle_degrees": 80 - 40 * grown, **HELD_OUT, **COUNTS, "note": None}
    return {"latent_languages": verdicts, "language_matches": matches, "language_contrast": rungs, "language_verdicts": [verdict]}


def _pairs(place: dict[str, object], rng: np.random.Generator) -> dict[str, list[dict[str, object]]]:
    edges, nodes = [], []
    for language in LANGUAGES:
        for latent in range(6):
            shares = {"firing_women": 0.6 - 0.1 * (latent % 3), "firing_men": 0.2 + 0.1 * (latent % 4)}
            nodes.append({**place, "language": language, "latent": latent, "sets": f"visible/{language}", **shares, "degree": int(latent < 2)})
            for other in range(latent + 1, 6):
                joined, tested = (latent, other) == (0, 1), other != 5
                women, men = (0.8, 0.1) if joined else (float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.2, 0.2)))
                edges.append(
                    {**place, "language": language, "latent_a": latent, "latent_b": other, "split": "report", "pmi": 0.9 if joined else 0.05, "n_both": 20}
                    | {"correlation_women": women if tested else None, "correlation_men": men if tested else None, "z": 5.0 if joined else None}
                    | {"p": (1e-6 if joined else 0.4) if tested else None, "q": (1e-5 if joined else 0.6) if tested else None}
                    | {"n_clusters_women": 40, "n_clusters_men": 40, "note": None if tested else "latent 5 fires on 2 picture groups of men"}
                )
    return {"latent_pairs": edges, "latent_nodes": nodes}


def _grammar(place: dict[str, object], grown: float) -> dict[str, list[dict[str, object]]]:
    tests, latents = [], []
    for language, evidence, follows, possible in (
        ("ar", "form of words", "form", True),
        ("ar", "meaning of words", "meaning", False),
        ("en", "meaning of shared nouns", "meaning", True),
    ):
        numbers = {"n_selected": 2, "strongest": 0.7 * grown, "smallest_p": 0.0005, "n_words": 300, "n_units": 40, "note": None}
        nothing = {"n_selected": None, "strongest": None, "smallest_p": None, "n_words": 0, "n_units": 0, "note": "form and meaning go together in all words"}
        tests.append({**place, "language": language, "evidence": evidence, "follows": follows, "n_latents": LATENTS, **(numbers if possible else nothing)})
        for latent in range(12 if possible else 0):
            association = 0.7 * grown if latent < 2 else 0.02 * latent
            chosen = {"association": association, "p": 0.0005 if latent < 2 else 0.6, "q": 0.004 if latent < 2 else 0.9, "selected": latent < 2}
            latents.append({**place, "latent": latent, "language": language, "evidence": evidence, "follows": follows, **chosen})
    words = [
        {"row": int(str(place["layer"])) * 10 + number, "sample_id": f"s{number:04d}", "language": "ar", "word": word, "is_feminine_form": word.endswith("ة")}
        | {"meaning": meaning, "rule": None if meaning == "N" else "role noun", "shows": "F", "cluster_id": f"c{number}"}
        for number, (word, meaning) in enumerate((("طباخة", "F"), ("طباخ", "M"), ("سيارة", "N"), ("كرسي", "N")))
    ]
    return {"grammar_tests": tests, "latent_grammar": latents, "caption_words": words if place["layer"] == 0 else []}


def _causal(rng: np.random.Generator) -> list[dict[str, object]]:
    rows = []
    for language in LANGUAGES:
        for a, b in ((0, 1), (0, 2), (1, 2)):
            effects = {"effect_a": float(rng.uniform(-0.6, -0.2)), "effect_b": float(rng.uniform(-0.5, -0.1))}
            extra = 0.2 if (a, b) == (0, 1) else 0.0
            joint = {"effect_both": effects["effect_a"] + effects["effect_b"] + extra, "interaction": extra, "low": extra - 0.05, "high": extra + 0.05}
            rows.append(
                {"sae_id": "run/L05", "layer": 5, "language": language, "latent_a": a, "latent_b": b, "split": "report", **effects, **joint}
                | {"n_images": 40, "n_clusters": 38, "note": None}
            )
    return rows
