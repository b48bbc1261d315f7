"""The report of a planted catalogue, put together as the plot stage does."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
from PIL import Image

from saebias.plots.directions import interactive_gender_direction
from saebias.plots.gallery import GALLERY
from saebias.plots.report.data import InteractiveFigure, ReportData, ReportFigure, Scene, SceneCaption
from saebias.plots.saving import figure_svg, table_csv

LEFT_OUT = "select stage, reason, count(*) as n, min(source || ':' || row_number) as first_place, min(value) as example from left_out group by all"


def png(colour: str = "#e8c46a") -> bytes:
    """A small picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def planted_report(ask: Callable[[str], pa.Table], names: tuple[str, ...] = ()) -> ReportData:
    """Report data of a catalogue, with the named figures only."""

    def rows(view: str) -> tuple[dict, ...]:
        return tuple(ask(view if view.startswith("select") else f"from {view}").to_pylist())

    figures = []
    for item in GALLERY:
        if item.name in names:
            table = ask(f"from {item.view}")
            figures.append(
                ReportFigure(item.name, item.title, item.section, item.caption, item.view, figure_svg(item.draw(table), item.name), table_csv(item.keep(table)))
            )
    interactive = (InteractiveFigure("turn", "Turn it", "where", "Drag.", interactive_gender_direction(ask("from gender_points"), per_group=5)),)
    return ReportData(
        title="Gender bias of a captioner",
        model="captioner-skewed",
        languages=("en", "ar"),
        fingerprint="a1b2c3d4e5f6",
        created_at="2026-01-05",
        versions={"saebias": "0.1.0"},
        emoji_corpus=True,
        summary=rows("bias_summary"),
        professions=rows("profession_pairs"),
        amplification=rows("amplification"),
        layers=rows("layer_emergence"),
        steering=rows("steering_frontier"),
        quality=rows("sae_quality_by_layer"),
        timings=rows("stage_timing"),
        left_out=rows(LEFT_OUT),
        stale=rows("stale_runs"),
        harm_budget=0.03,
        baselines=rows("(select * from probe_accuracy where baseline is not null)"),
        patching=rows("(select * from patching_effects where part = 'decoder' and component = 'residual stream')"),
        alarms=("an alarm <b>in markup</b>",),
        figures=tuple(figures),
        interactive=interactive if names else (),
        scenes=(scene(),),
    )


def scene() -> Scene:
    """A scene whose Arabic caption an intervention changed."""
    captions = (
        SceneCaption("en", "reference", "a cook with a kite"),
        SceneCaption("en", "greedy", "a man cook with a kite", p_female=0.25),
        SceneCaption("ar", "greedy", "طباخ يقف بجانب غيتار", p_female=0.125),
        SceneCaption("ar", "steered", "طباخة تقف بجانب غيتار", by="stereotype/ar"),
    )
    return Scene("s0001", "cook", "ambiguous", png(), captions)


def with_summary(data: ReportData, metric: str, language: str, **values: object) -> ReportData:
    """`data` with other numbers in one summary row."""
    changed = tuple(row | values if (row["metric"], row["language"]) == (metric, language) else row for row in data.summary)
    return replace(data, summary=changed)
