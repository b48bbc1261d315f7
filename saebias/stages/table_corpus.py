"""A researcher's own table of pictures and captions as a corpus."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from saebias.errors import InputError
from saebias.pipeline.stage import StageContext
from saebias.stages.corpus_rows import Corpus
from saebias.stages.label_access import caption_label

if TYPE_CHECKING:
    from saebias.corpus.intake import Corpus as IntakeCorpus
    from saebias.corpus.records import Continuation, ReferenceShare, SampleProblem, SampleRecord

DEFAULT_CONTINUATIONS = {
    ("en", "F"): "A photo of a woman",
    ("en", "M"): "A photo of a man",
    ("en", "N"): "A photo of a person",
    ("ar", "F"): "صورة امرأة",
    ("ar", "M"): "صورة رجل",
    ("ar", "N"): "صورة شخص",
}
"""The closed set for any picture where the user gives none; context * serves all."""


def table_corpus(ctx: StageContext) -> Corpus:
    """Read the table, check every picture, sample down to n, and gather what is usable; the rest is kept as problems with reasons."""
    from saebias.corpus.column_map import ColumnMap
    from saebias.corpus.images import check_images
    from saebias.corpus.intake import join_pictures
    from saebias.corpus.near_duplicates import near_duplicate_clusters
    from saebias.corpus.tables import read_table

    data = ctx.cfg.data
    assert data.table is not None
    read = read_table(data.table, ColumnMap(**data.columns.model_dump()), image_root=data.image_root, reporter=ctx.reporter)
    checks = check_images([row.image for row in read.rows], full_decode=data.full_decode, content_hash=True, reporter=ctx.reporter)
    alike = near_duplicate_clusters(checks, reporter=ctx.reporter) if data.near_duplicates else None
    joined = join_pictures(read.rows, checks, alike)
    problems = read.problems + [_in_users_words(problem, data.columns.image) for problem in joined.problems]
    if not joined.samples:
        raise InputError(f"{data.table}: none of its {len(problems)} rows can be used; the first: row {problems[0].row_number}: {problems[0].reason}")
    # Pictures of one profession choose latents or report them, never both: without a column of concepts the context is the concept.
    samples = [replace(sample, concept=sample.concept or sample.context) for sample in _sampled(ctx, _with_shown_gender(ctx, joined))]
    kept = {sample.sample_id for sample in samples}
    kept_images = {sample.image_id for sample in samples}
    owner = {f"{sample_id}-{language}": sample_id for sample_id in kept for language in ("en", "ar")}
    captions = [caption for caption in joined.captions if caption.caption_id.rpartition("-")[0] in owner]
    # Absolute, so that a later stage may be started from another working directory.
    images = [replace(image, path=str(Path(image.path).absolute())) for image in joined.images if image.image_id in kept_images]
    return Corpus(
        samples,
        images,
        captions,
        {caption.caption_id: owner[caption.caption_id.rpartition("-")[0]] for caption in captions},
        {image.image_id: image.path for image in images},
        _continuations(ctx),
        _reference_shares(ctx),
        problems,
    )


def _with_shown_gender(ctx: StageContext, joined: IntakeCorpus) -> list[SampleRecord]:
    """The samples; where the table says of none what its picture shows, what its captions say stands in for it.

    All captions of an image together: F or M where they say one gender (Arabic masculine grammar alone says nothing), A where they name a person and no
    gender, nothing where they say both or name nobody.
    """
    if any(sample.visual_gender is not None for sample in joined.samples):
        return joined.samples
    said: dict[str, set[str]] = {}
    for caption in joined.captions:
        label = caption_label(ctx.cfg, caption.text, caption.language)
        said.setdefault(caption.image_id, set()).add("N" if label.label == "M" and not label.explicit else label.label)
    shown = {image_id: _shown(labels) for image_id, labels in said.items()}
    counts = {gender: sum(value == gender for value in shown.values()) for gender in ("F", "M", "A", None)}
    ctx.reporter.warn(
        "prepare: no column says what the pictures show, so their captions do: "
        f"{counts['F']:,} women, {counts['M']:,} men, {counts['A']:,} not said, {counts[None]:,} left out; map data.columns.visual_gender to say it"
    )
    return [replace(sample, visual_gender=shown[sample.image_id]) for sample in joined.samples]


def _shown(labels: set[str]) -> str | None:
    gendered = labels & {"F", "M", "X"}
    if len(gendered) == 1 and "X" not in gendered:
        return next(iter(gendered))
    return "A" if not gendered and "N" in labels else None


def _in_users_words(problem: SampleProblem, image_column: str) -> SampleProblem:
    return replace(problem, column=image_column) if problem.column == "image" else problem


def _sampled(ctx: StageContext, samples: Sequence[SampleRecord]) -> Sequence[SampleRecord]:
    from saebias.corpus.sampling import stratified_sample

    if len(samples) <= ctx.cfg.data.n:
        return samples
    drawn = stratified_sample(samples, ctx.cfg.data.n, seed=ctx.cfg.data.seed)
    ctx.reporter.info(f"prepare: {len(drawn.samples):,} of {len(samples):,} usable rows sampled, stratified by gender shown and context")
    return drawn.samples


def _continuations(ctx: StageContext) -> list[Continuation]:
    from saebias.corpus.records import Continuation

    path = ctx.cfg.data.continuations
    if path is None:
        return [Continuation("*", language, gender, text) for (language, gender), text in DEFAULT_CONTINUATIONS.items()]
    rows = [Continuation(**row) for row in _csv_rows(path, ("context", "language", "gender", "text"))]
    for row in rows:
        if row.gender not in ("F", "M", "N") or row.language not in ("en", "ar") or not row.text.strip():
            raise InputError(f"{path}: row {row} does not fit; gender is F, M or N, language en or ar, text not empty")
    for key in {(row.context, row.language) for row in rows}:
        if {row.gender for row in rows if (row.context, row.language) == key} < {"F", "M"}:
            raise InputError(f"{path}: context {key[0]!r} in {key[1]} needs a continuation of F and one of M")
    return rows


def _reference_shares(ctx: StageContext) -> list[ReferenceShare]:
    from saebias.corpus.records import ReferenceShare

    path = ctx.cfg.data.reference_shares
    if path is None:
        return []
    rows = []
    for row in _csv_rows(path, ("context", "language", "source", "p_female")):
        try:
            share = float(row["p_female"])
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise InputError(f"{path}: p_female is {row['p_female']!r} for {row['context']!r}; give a share between 0 and 1")
        rows.append(ReferenceShare(row["context"], row["language"], row["source"], share))
    return rows


def _csv_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = [column for column in columns if column not in (reader.fieldnames or [])]
        if missing:
            raise InputError(f"{path}: column {missing[0]} is missing; it has {', '.join(reader.fieldnames or [])}")
        rows = [{column: row[column] for column in columns} for row in reader]
    for number, row in enumerate(rows, start=1):
        if any(value is None for value in row.values()):
            raise InputError(f"{path}: row {number} has fewer fields than the header; fill it up")
    if not rows:
        raise InputError(f"{path}: has a header and no rows; fill it, or leave it out of the configuration")
    return rows
