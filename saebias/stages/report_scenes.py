"""The sample scenes of the report: pictures with the model's captions, before and after steering."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from saebias.plots.report.data import Scene

THUMBNAIL_PIXELS = 200


def sample_scenes(ask: Callable[..., pa.Table], count: int) -> tuple[Scene, ...]:
    """At most `count` scenes: those whose captions steering changed first, then ambiguous ones, each from another profession where possible."""
    if count == 0:
        return ()
    rows = {row["sample_id"]: row for row in ask("select * from caption_examples order by sample_id").to_pylist()}
    changed: dict[str, list[dict[str, Any]]] = {}
    for row in ask("select * from changed_captions where arm = 'A3' order by sample_id, target, language").to_pylist():
        changed.setdefault(row["sample_id"], []).append(row)
    order = sorted(rows, key=lambda sample_id: (sample_id not in changed, rows[sample_id]["image_shows"] != "ambiguous", sample_id))
    chosen: list[str] = []
    for sample_id in [*_one_per_profession(order, rows), *order]:
        if sample_id not in chosen and len(chosen) < count:
            chosen.append(sample_id)
    return tuple(_scene(rows[sample_id], changed.get(sample_id, [])) for sample_id in chosen)


def _one_per_profession(order: list[str], rows: dict[str, dict[str, Any]]) -> list[str]:
    first: dict[str, str] = {}
    for sample_id in order:
        first.setdefault(rows[sample_id]["profession"] or sample_id, sample_id)
    return list(first.values())


def _scene(row: dict[str, Any], changed: list[dict[str, Any]]) -> Scene:
    from saebias.plots.report.data import Scene, SceneCaption
    from saebias.plots.report.pictures import thumbnail

    captions = []
    for language in ("en", "ar"):
        if row[f"caption_{language}"] is not None:
            captions.append(SceneCaption(language, "reference", row[f"caption_{language}"]))
        if row[f"greedy_{language}"] is not None:
            captions.append(SceneCaption(language, "greedy", row[f"greedy_{language}"], p_female=row[f"p_female_{language}"]))
        captions += [SceneCaption(language, "steered", item["caption_after"], by=item["target"]) for item in changed if item["language"] == language]
    return Scene(row["sample_id"], row["profession"], row["image_shows"], thumbnail(Path(row["image_path"]), THUMBNAIL_PIXELS), tuple(captions))
