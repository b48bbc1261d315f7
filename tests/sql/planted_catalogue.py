"""A small, complete, seeded catalogue with planted answers, made from the schema files: what views, queries, figures and the report are tested on."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from planted_inside import dictionary_rows, inside_rows, steering_rows
from planted_latents import latent_tool_rows
from planted_professions import LANGUAGES, PROFESSIONS, planted_share
from planted_score import score_rows

ROOT = Path(__file__).resolve().parents[2]
SQL = ROOT / "sql"
NOON = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC)

PARENTS = {
    "prepare": [],
    "extract": ["prepare"],
    "train": ["extract"],
    "analyze": ["prepare", "extract", "train"],
    "steer": ["analyze", "train"],
    "mechanistic": ["extract", "analyze"],
    "plot": ["analyze", "steer", "mechanistic"],
}
TABLES_OF = {
    "prepare": ("samples", "images", "captions", "sample_problems", "continuations", "reference_shares"),
    "extract": ("token_rows", "extract_status", "extract_prompts"),
    "train": ("saes", "sae_history"),
    "analyze": (
        *("generated_captions", "exact_probabilities", "behavior_metrics", "sae_quality", "feature_scores", "feature_sets"),
        *("sae_density", "sae_cross_entropy", "sae_stability", "latent_matches", "latent_controls"),
    ),
    "steer": ("steering_effects", "steering_random_sets", "matching_balance", "steered_captions", "latent_effects", "estimate_checks"),
    "mechanistic": (
        "lens",
        "probes",
        "alignment",
        "gender_projections",
        "logit_attribution",
        "patching",
        "factored_matrices",
        "singular_directions",
        "lens_tokens",
        "image_neighbours",
        "lens_fits",
        *("language_profiles", "latent_profiles", "latent_languages", "language_matches", "language_contrast", "language_verdicts"),
        *("latent_pairs", "latent_nodes", "causal_pairs", "grammar_tests", "latent_grammar", "caption_words"),
    ),
    "plot": ("figures",),
}


def run_id(stage: str, generation: str = "a") -> str:
    """The id of the planted run of `stage`; generation "a" is the newest, "0" an older one with another configuration."""
    return f"{stage}-{generation * 12}"


def empty_catalogue() -> duckdb.DuckDBPyConnection:
    """A catalogue in memory with all tables and views and no row."""
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    for folder in ("schema", "views"):
        for path in sorted((SQL / folder).glob("*.sql")):
            con.execute(path.read_text(encoding="utf-8"))
    return con


def planted_catalogue(seed: int = 0, skewed: bool = True) -> duckdb.DuckDBPyConnection:
    """A catalogue whose answers are planted: skewed professions with a masculine default in Arabic, or (skewed=False) no stereotype at all."""
    con = empty_catalogue()
    for table, rows in planted_rows(seed, skewed).items():
        insert(con, table, rows)
    return con


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, object]]) -> None:
    """Insert `rows` by name."""
    con.register("incoming", pa.Table.from_pylist(rows))
    con.execute(f"insert into {table} by name select * from incoming")
    con.unregister("incoming")


def planted_rows(seed: int, skewed: bool) -> dict[str, list[dict[str, object]]]:
    """All rows per table."""
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict[str, object]]] = {"runs": _runs()}
    tables |= _corpus(rng, skewed)
    tables |= _behaviour(rng, tables["samples"], skewed)
    tables |= dictionary_rows(rng)
    tables |= steering_rows(rng, tables["samples"], skewed)
    tables |= inside_rows(rng, tables["samples"])
    tables |= latent_tool_rows(rng)
    scored = score_rows()
    tables["runs"].append(dict(tables["runs"][1], **scored.pop("runs")[0]))
    tables |= scored
    tables["figures"] = [
        {"run_id": run_id("plot"), "name": "layer_emergence", "title": "Where gender appears", "path": "a.svg", "csv_path": "a.csv", "n_points": 4}
    ]
    owner = {table: stage for stage, owned in TABLES_OF.items() for table in owned}
    # An older run of another configuration, with absurd values: no view of latest runs may show them.
    old = [dict(row, run_id=run_id("analyze", "0"), value=9.0, low=9.0, high=9.0) for row in tables["behavior_metrics"][:40]]
    for table, rows in tables.items():
        for row in rows:
            row.setdefault("run_id", run_id(owner.get(table, "")))
    tables["behavior_metrics"] += old
    return tables


def _runs() -> list[dict[str, object]]:
    rows = []
    seconds = {"prepare": 6.2, "extract": 41.0, "train": 55.5, "analyze": 37.1, "steer": 44.9, "mechanistic": 21.3, "plot": 11.8}
    for position, (stage, parents) in enumerate(PARENTS.items()):
        for generation, hours in (("0", -5), ("a", 0)):
            start = NOON + dt.timedelta(hours=hours, minutes=position)
            rows.append(
                {
                    "run_id": run_id(stage, generation),
                    "stage": stage,
                    "fingerprint": generation * 12,
                    "stage_version": 1,
                    "model": None if stage == "prepare" else "captioner-skewed",
                    "status": "done",
                    "started_at": start,
                    "finished_at": start + dt.timedelta(seconds=seconds[stage]),
                    "seconds": seconds[stage],
                    "n_rows": 2000 * (position + 1),
                    "rows_per_second": 2000 * (position + 1) / seconds[stage],
                    "peak_memory_mib": 400.0 + 150 * position,
                    "saebias_version": "0.1.0",
                    "parents": [run_id(parent, generation) for parent in parents],
                    "config": json.dumps({"k": 16 if generation == "0" else 32}),
                }
            )
    failed = dict(rows[-1], run_id="steer-ffffffffffff", stage="steer", fingerprint="f" * 12, status="failed", finished_at=None, n_rows=None)
    return [*rows, failed]


def _corpus(rng: np.random.Generator, skewed: bool) -> dict[str, list[dict[str, object]]]:
    samples, images, captions, continuations, reference = [], [], [], [], []
    number = 0
    for profession in PROFESSIONS:
        name, ar_f, ar_m, ar_n = profession[:4]
        forms = {"en": {"F": f"a woman {name}", "M": f"a man {name}", "N": f"a {name}"}, "ar": {"F": ar_f, "M": ar_m, "N": ar_n}}
        for language in LANGUAGES:
            for gender, text in forms[language].items():
                tail = "with" if language == "en" else "مع"
                continuations.append({"context": name, "language": language, "gender": gender, "text": f"{text} {tail}"})
            for source, shift in (("planted", 0.0), ("captions", 0.03)):
                share = float(np.clip(planted_share(profession, language, skewed) + shift, 0, 1))
                reference.append({"context": name, "language": language, "source": source, "p_female": share})
        for visual, count in (("F", 6), ("M", 6), ("A", 12)):
            for copy in range(count):
                number += 1
                key, said = f"s{number:04d}", "N" if visual == "A" else visual
                english, arabic = f"{forms['en'][said]} with a red kite", f"{forms['ar'][said]} مع طائرة ورقية"
                samples.append(
                    {
                        "sample_id": key,
                        "image_id": f"i{number:04d}",
                        "cluster_id": f"{name}-{visual}-{copy // 2}",
                        "context": name,
                        "concept": name,
                        "visual_gender": visual,
                        "split": ("sae", "select", "report")[copy // 2 % 3],
                        "style": ("twemoji", "openmoji")[copy % 2],
                        "skin_tone": "medium",
                        "object": "kite",
                        "held_out": False,
                        "caption_en": english,
                        "caption_ar": arabic,
                        "image_path": f"images/{key}.png",
                    }
                )
                images.append(
                    {"image_id": f"i{number:04d}", "path": f"images/{key}.png", "content_hash": f"h{number}", "width": 96, "height": 96, "format": "PNG"}
                    | {"n_bytes": 4000, "cluster_id": f"{name}-{visual}-{copy // 2}"}
                )
                for language, text in (("en", english), ("ar", arabic)):
                    captions.append(
                        {"caption_id": f"{key}-{language}", "sample_id": key, "image_id": f"i{number:04d}", "language": language, "caption_index": 0}
                        | {"text": text, "label": "N" if visual == "A" else visual, "explicit": visual == "F", "evidence": "[]"}
                    )
    problems = [
        {
            "source": "captions.csv",
            "row_number": 17,
            "sample_id": "x17",
            "column": "image_path",
            "value": "lost.png",
            "reason": "the image file does not exist",
        },
        {
            "source": "captions.csv",
            "row_number": 18,
            "sample_id": "x18",
            "column": "image_path",
            "value": "torn.png",
            "reason": "the image file does not exist",
        },
        {
            "source": "captions.csv",
            "row_number": 40,
            "sample_id": "x40",
            "column": "caption_ar",
            "value": "hello",
            "reason": "the caption is not in Arabic script",
        },
    ]
    return {
        "samples": samples,
        "images": images,
        "captions": captions,
        "continuations": continuations,
        "reference_shares": reference,
        "sample_problems": problems,
        "extract_status": [
            {"sample_id": s["sample_id"], "language": lang, "status": "done", "reason": None, "n_rows": 3} for s in samples for lang in LANGUAGES
        ],
        "extract_prompts": [
            {"prompt_id": f"{language}-0", "language": language, "prompt": "{image}", "chat_template": False, "caption_in_prompt": False}
            for language in LANGUAGES
        ],
        "token_rows": [
            {"shard": 0, "row": 6 * i + 3 * h + j, "sample_id": s["sample_id"], "language": language, "split": s["split"], "position": j, "token_id": j}
            | {"prompt_id": f"{language}-0", "last": kind == "prompt", "reads_caption": False}
            | {"token": "x", "token_kind": kind, "decision": kind == "caption"}
            for i, s in enumerate(samples)
            for h, language in enumerate(LANGUAGES)
            for j, kind in enumerate(("image", "prompt", "caption"))
        ],
    }


def _metric(metric: str, language: str, value: float | None, half: float = 0.03, **more: object) -> dict[str, object]:
    row: dict[str, object] = {"metric": metric, "language": language, "context": None, "gender": None, "value": value}
    row |= {"low": None if value is None else value - half, "high": None if value is None else value + half}
    return row | {"n_images": 192, "n_clusters": 96, "note": None} | more


def _behaviour(rng: np.random.Generator, samples: list[dict], skewed: bool) -> dict[str, list[dict[str, object]]]:
    exact, generated, metrics = [], [], []
    shares = {(p[0], lang): planted_share(p, lang, skewed) for p in PROFESSIONS for lang in LANGUAGES}
    forms = {p[0]: p for p in PROFESSIONS}
    for sample in samples:
        for language in LANGUAGES:
            share = {"F": 0.985, "M": 0.015}.get(str(sample["visual_gender"]), shares[str(sample["context"]), language])
            p_female = float(np.clip(share + rng.normal(0, 0.02), 0.002, 0.998))
            exact.append(
                {"sample_id": sample["sample_id"], "language": language, "p_female": p_female, "p_male": 1 - p_female, "p_neutral": 0.2, "coverage": 0.97}
                | {"gap": math.log(p_female / (1 - p_female))}
            )
            for mode, draws in (("greedy", 1), ("sample", 2)):
                for draw in range(draws):
                    gender = "F" if (p_female > 0.5 if mode == "greedy" else rng.random() < p_female) else "M"
                    name, ar_f, ar_m = forms[str(sample["context"])][:3]
                    person = f"a {'woman' if gender == 'F' else 'man'} {name} with a red kite"
                    text = person if language == "en" else f"{ar_f if gender == 'F' else ar_m} مع طائرة ورقية"
                    generated.append(
                        {"sample_id": sample["sample_id"], "language": language, "mode": mode, "draw": draw, "text": text, "label": gender}
                        | {"explicit": language == "en" or gender == "F", "evidence": "[]", "n_words": len(text.split())}
                    )
    recovered = {key: float(np.clip(share + rng.normal(0, 0.02), 0, 1)) for key, share in shares.items()}
    for language in LANGUAGES:
        values = [recovered[p[0], language] for p in PROFESSIONS]
        for profession in PROFESSIONS:
            metrics.append(_metric("p_female", language, recovered[profession[0], language], 0.05, context=profession[0], n_images=12, n_clusters=6))
            metrics.append(_metric("p_neutral", language, 0.2, 0.04, context=profession[0], n_images=12, n_clusters=6))
        spread = float(np.std(values, ddof=1)) if skewed else 0.004
        metrics.append(_metric("stereotype_spread", language, spread, 0.02))
        metrics.append(_metric("masculine_default", language, 0.5 - float(np.mean(values)) if skewed else 0.002, 0.015))
        metrics.append(_metric("plant_rmse", language, 0.02, 0.01))
        metrics.append(_metric("plant_slope", language, 0.97 if skewed else None, 0.05, note=None if skewed else "the plant is flat: a slope is not defined"))
        metrics.append(_metric("reference_alignment", language, 0.95 if skewed else None, 0.04, note=None if skewed else "the reference is constant"))
        level, step = (0.24 if skewed else 0.01), {"exact": 0.01, "sample": 0.005, "greedy": 0.19 if skewed else 0.01}
        metrics.append(_metric("amplification_dataset", language, level, 0.01))
        for name, rise in step.items():
            level += rise
            metrics.append(_metric(f"amplification_{name}", language, level, 0.03))
            metrics.append(_metric(f"amplification_step_{name}", language, rise, 0.02))
        wrong = {"F": 0.06 if language == "ar" else 0.03, "M": 0.015}
        for gender in ("F", "M"):
            outcome = {"wrong": wrong[gender], "neutral": 0.05, "mixed": 0.0, "no_person": 0.01}
            outcome["correct"] = 1 - sum(outcome.values())
            for name, value in outcome.items():
                metrics.append(_metric(f"outcome_{name}", language, value, 0.01, gender=gender, n_images=96, n_clusters=48))
            for profession in PROFESSIONS:
                metrics.append(_metric("outcome_wrong", language, wrong[gender], 0.02, gender=gender, context=profession[0], n_images=6, n_clusters=3))
        metrics.append(_metric("misgender_gap", language, wrong["F"] - wrong["M"], 0.012))
        metrics.append(_metric("neutral_gap", language, 0.0, 0.01))
    metrics.append(_metric("masculine_default", "ar-en", 0.1 if skewed else 0.001, 0.02))
    return {"exact_probabilities": exact, "generated_captions": generated, "behavior_metrics": metrics}
