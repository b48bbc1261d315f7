"""Pairs of pictures that differ in the person's gender alone: composed anew for the demonstration corpus, or named by the user."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import InputError, NotEnoughData
from saebias.pipeline.stage import StageContext
from saebias.stages.model_access import open_pictures, samples_of

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


@dataclass(frozen=True, eq=False)
class PicturePair:
    """One scene with a woman and with a man. `sample_id` and `cluster` are those of the pair; a cluster holds both genders of a drawing."""

    sample_id: str
    context: str | None
    cluster: str
    woman: Picture
    man: Picture


def picture_pairs(ctx: StageContext, n: int) -> list[PicturePair]:
    """At most `n` pairs of the report split, spread evenly over contexts; raises NotEnoughData where the corpus offers none."""
    samples = samples_of(ctx)
    if ctx.cfg.mechanistic.pairs is not None:
        return named_pairs(samples, ctx.cfg.mechanistic.pairs)[:n]
    if ctx.cfg.data.source != "emoji":
        raise NotEnoughData(
            "mechanistic: patching needs pictures of the same scene with a woman and with a man; name them in mechanistic.pairs (CSV: woman, man sample ids)"
        )
    clear = spread_evenly([row for row in samples if row["split"] == "report" and row["visual_gender"] in ("F", "M")], n, ctx.cfg.seed)
    if not clear:
        raise NotEnoughData("mechanistic: the report split has no picture of a woman or a man; give more images")
    return _composed(ctx, clear)


def spread_evenly(rows: Sequence[dict[str, Any]], n: int, seed: int) -> list[dict[str, Any]]:
    """At most `n` samples, evenly over (visual gender, context) and, within, over picture groups.

    Every sample has its own random number, so order never matters.
    """
    from saebias.corpus.grouping import draw

    ranked = sorted(rows, key=lambda row: draw(seed, "mechanistic", row["sample_id"]))
    for keys in (("visual_gender", "context", "cluster_id"), ("visual_gender", "context")):
        seen: dict[tuple[Any, ...], int] = {}
        ranks = []
        for row in ranked:
            cell = tuple(row[key] for key in keys)
            seen[cell] = seen.get(cell, 0) + 1
            ranks.append(seen[cell])
        # Stable: within a round the earlier order stays.
        ranked = [ranked[place] for place in np.argsort(ranks, kind="stable")]
    return ranked[:n]


def _composed(ctx: StageContext, rows: Sequence[dict[str, Any]]) -> list[PicturePair]:
    """The samples' scenes drawn once more with the other gender; raises InputError when the plan does not give the picture that lies on disk."""
    from dataclasses import replace

    from saebias.captioner.scenes import render_scene
    from saebias.captioner.spec import load_spec
    from saebias.stages.emoji_corpus import plan_corpus

    data = ctx.cfg.data
    spec = load_spec(data.captioner)
    scenes = plan_corpus(spec, data.n, data.seed, data.ambiguous_share)
    pairs = []
    for row, on_disk in zip(rows, _opened(rows), strict=True):
        scene = scenes[int(row["sample_id"].removeprefix("scene-"))]
        drawn = {gender: render_scene(replace(scene, gender=gender), spec) for gender in ("F", "M")}
        if not np.array_equal(np.asarray(drawn[row["visual_gender"]]), np.asarray(on_disk)):
            raise InputError(f"sample {row['sample_id']}: its plan draws another picture than {row['image_path']}; run `saebias prepare --force`")
        pairs.append(PicturePair(row["sample_id"], row["context"], f"{scene.style}/{scene.context}/{scene.tone}", drawn["F"], drawn["M"]))
    return pairs


def named_pairs(samples: Sequence[dict[str, Any]], path: Path) -> list[PicturePair]:
    """The pairs of a CSV file with the columns woman and man (sample ids); raises InputError naming the line for an unknown or wrongly shown sample."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            lines = list(reader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"mechanistic.pairs={path}: {' '.join(str(error).split())}; give a readable CSV file") from error
    if missing := {"woman", "man"} - set(reader.fieldnames or ()):
        raise InputError(f"{path}: no column {' or '.join(sorted(missing))}; the pairs need the columns woman and man (sample ids)")
    known = {row["sample_id"]: row for row in samples}
    for number, line in enumerate(lines, start=2):
        for column, gender in (("woman", "F"), ("man", "M")):
            row = known.get(line[column])
            if row is None or row["visual_gender"] != gender:
                shown = "is no sample" if row is None else f"shows {row['visual_gender'] or 'nobody known'}"
                raise InputError(f"{path}, line {number}: {column} {line[column]!r} {shown}; give a sample with visual gender {gender}")
    if not lines:
        raise NotEnoughData(f"{path}: no pairs")
    women, men = ([known[line[column]] for line in lines] for column in ("woman", "man"))
    opened = zip(women, men, _opened(women), _opened(men), strict=True)
    return [PicturePair(f"{w['sample_id']}/{m['sample_id']}", w["context"], w["cluster_id"], woman, man) for w, m, woman, man in opened]


def _opened(rows: Sequence[dict[str, Any]]) -> list[Picture]:
    pictures = open_pictures(rows)
    for picture in pictures:
        if isinstance(picture, str):
            raise InputError(f"{picture}; put it back, or run `saebias prepare --force`")
    return [picture for picture in pictures if not isinstance(picture, str)]
