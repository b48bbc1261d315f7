"""`mechanistic --only probes|alignment`: where gender can be read, and how alike the languages are, at the position that decides it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from saebias.config.schema import Config
from saebias.errors import NotEnoughData
from saebias.identifiers import LANGUAGES
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.activation_source import Source, nan_to_null, open_source, say_caption_is_read
from saebias.stages.model_access import model_files

if TYPE_CHECKING:
    from saebias.stages.token_index import TokenIndex

Rows = TypeVar("Rows")


def run_probes(ctx: StageContext) -> None:
    """Probes of visible gender on clear images, per layer, language and token kind."""
    from saebias.stages.probe_rows import probe_rows

    for name in ctx.pending(["probes"]):
        rows = left_out_or(ctx, "probes", lambda: probe_rows(ctx, open_source(ctx)), [])
        with ctx.unit(name) as out:
            out.rows("probes", rows)


def run_alignment(ctx: StageContext) -> None:
    """Cross-lingual measures per layer, and the points of the 3-D figure (axes fitted on select, points of report)."""
    for name in ctx.pending(["alignment"]):
        source = open_source(ctx)
        rows, points = left_out_or(ctx, "alignment", lambda source=source: alignment_tables(ctx, source), ([], []))
        with ctx.unit(name) as out:
            out.rows("alignment", rows)
            out.rows("gender_projections", points)


def alignment_tables(ctx: StageContext, source: Source) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows of alignment, rows of gender_projections)."""
    from threadpoolctl import threadpool_limits

    from saebias.mechanistic.alignment import PairedActivations, alignment_rows
    from saebias.mechanistic.probes import READS_CAPTION

    en, ar = paired_decisions(source, ctx.cfg.seed)
    if len(en) == MAX_PAIRED:
        ctx.reporter.info(f"mechanistic.alignment: {MAX_PAIRED:,} images drawn of those with a decision row in both languages")
    is_read = say_caption_is_read(ctx, en, "alignment") | say_caption_is_read(ctx, ar, "alignment")
    rows, points = [], []
    with threadpool_limits(1), ctx.reporter.task("aligning languages", len(source.hooks), "layers") as task:
        for hook in source.hooks:
            x_en_ND, x_ar_ND = source.array.read_rows(hook, en.row), source.array.read_rows(hook, ar.row)
            paired = PairedActivations(hook.layer, x_en_ND, x_ar_ND, source.gender(en.sample_id), source.column(en.sample_id, "cluster_id"))
            cfg = ctx.cfg.mechanistic
            rows += alignment_rows(paired, seed=ctx.seed("alignment"), n_permutations=cfg.permutations, n_folds=cfg.folds)
            points += _points(source, hook.layer, np.concatenate([x_en_ND, x_ar_ND]), np.concatenate([en.sample_id, ar.sample_id]), len(en))
            task.advance()
    if is_read:
        rows = [replace(row, note="; ".join(filter(None, [READS_CAPTION, row.note]))) for row in rows]
    return [nan_to_null(asdict(row)) for row in rows], points


MAX_PAIRED = 20_000
"""Images that the measures of two languages read at most: more make the memory larger and the interval no narrower than the drawings allow."""


def paired_decisions(source: Source, seed: int) -> tuple[TokenIndex, TokenIndex]:
    """The decision rows of samples that have one in both languages, in the same order, at most `MAX_PAIRED` drawn by seed; NotEnoughData when there is none."""
    from saebias.corpus.grouping import draw

    known = source.row_gender != "-"
    parts = [first_of_sample(source.index.where(source.index.decision & known & (source.index.language == language))) for language in LANGUAGES]
    shared = np.intersect1d(parts[0].sample_id.astype(str), parts[1].sample_id.astype(str))
    if len(shared) == 0:
        raise NotEnoughData("mechanistic: no image has a decision row in both languages; alignment needs English and Arabic captions of the same images")
    if len(shared) > MAX_PAIRED:
        shared = np.array(sorted(shared, key=lambda sample_id: draw(seed, "paired", str(sample_id)))[:MAX_PAIRED])
    kept = [part.where(np.isin(part.sample_id.astype(str), shared)) for part in parts]
    assert list(kept[0].sample_id) == list(kept[1].sample_id), "shards hold samples in one order for both languages"
    return kept[0], kept[1]


def first_of_sample(part: TokenIndex) -> TokenIndex:
    """One row per sample: a picture asked in several ways has several decision rows; the first speaks for it, or it would count more than others."""
    return part.where(np.isin(np.arange(len(part)), np.unique(part.sample_id.astype(str), return_index=True)[1]))


def _points(source: Source, layer: int, x_ND: np.ndarray, sample_ids: np.ndarray, n_english: int) -> list[dict[str, Any]]:
    from saebias.mechanistic.gender_projection import fit_gender_axes

    language = np.array(["en"] * n_english + ["ar"] * (len(sample_ids) - n_english))
    gender, split = source.gender(sample_ids), source.column(sample_ids, "split")
    fitted, shown = split == "select", split == "report"
    axes = fit_gender_axes(x_ND[fitted], list(language[fitted]), list(gender[fitted]))
    contexts = [source.samples[sample_id]["context"] for sample_id in sample_ids[shown]]
    points = axes.project(layer, x_ND[shown], list(sample_ids[shown]), list(language[shown]), list(gender[shown]), contexts)
    return [asdict(point) for point in points]


def left_out_or(ctx: StageContext, what: str, compute: Callable[[], Rows], nothing: Rows) -> Rows:
    """What `compute` gives; where the data lack what it needs, nothing, and the report says so."""
    try:
        return compute()
    except NotEnoughData as error:
        ctx.reporter.warn(f"{what} is left out: {error}", alarm=True)
        return nothing


def _estimate(share: float):
    def estimate(cfg: Config) -> Estimate:
        return Estimate(2**20, 800 * 2**20, 2 + share * cfg.data.n)

    return estimate


def _stage(part: str, run: Any, help_text: str, tables: Sequence[str], reads: Sequence[str], seconds_per_sample: float, version: int = 1) -> Stage:
    return Stage(
        name=f"mechanistic.{part}",
        run=run,
        help=help_text,
        needs=("prepare", "extract"),
        reads=tuple(reads),
        tables=tuple(tables),
        inputs=model_files if "model" in reads else lambda cfg: [],
        estimate=_estimate(seconds_per_sample),
        version=version,
    )


_PROBES_READ = ("mechanistic.folds", "mechanistic.permutations", "model.name", "model.prompt_en", "model.prompt_ar")
MECHANISTIC_PROBES = _stage("probes", run_probes, "where gender can be read", ("probes",), _PROBES_READ, 0.01, version=2)
MECHANISTIC_ALIGNMENT = _stage(
    "alignment",
    run_alignment,
    "how alike the languages are inside",
    ("alignment", "gender_projections"),
    ("mechanistic.folds", "mechanistic.permutations"),
    0.004,
    version=3,
)
