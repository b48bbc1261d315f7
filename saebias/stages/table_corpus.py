"""A researcher's own table of pictures and captions as a corpus."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from saebias.errors import InputError
from saebias.pipeline.stage import StageContext
from saebias.stages.corpus_rows import Corpus

if TYPE_CHECKING:
    from saebias.corpus.images import ImageCheck
    from saebias.corpus.records import Continuation, ReferenceShare, SampleProblem
    from saebias.corpus.tables import TableRow

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
    from saebias.corpus.tables import read_table

    data = ctx.cfg.data
    assert data.table is not None
    read = read_table(data.table, ColumnMap(**data.columns.model_dump()), image_root=data.image_root, reporter=ctx.reporter)
    checks = check_images([row.image for row in read.rows], full_decode=data.full_decode, content_hash=True, reporter=ctx.reporter)
    problems = list(read.problems)
    usable: list[tuple[TableRow, ImageCheck]] = []
    for row, check in zip(read.rows, checks, strict=True):
        if check.ok:
            usable.append((row, check))
        else:
            problems.append(_image_problem(row, check, data.columns.image))
    if not usable:
        first = problems[0].reason if problems else "the table is empty"
        raise InputError(f"{data.table}: none of its {len(problems)} rows can be used; the first: {first}")
    return _gather(ctx, _sampled(ctx, usable), problems)


def _image_problem(row: TableRow, check: ImageCheck, column: str) -> SampleProblem:
    from saebias.corpus.records import SampleProblem

    return SampleProblem(row.source, row.row_number, row.sample_id, column, row.image[:200], f"picture: {check.reason}")


def _sampled(ctx: StageContext, usable: list[tuple[TableRow, ImageCheck]]) -> list[tuple[TableRow, ImageCheck]]:
    from saebias.corpus.sampling import stratified_sample

    if len(usable) <= ctx.cfg.data.n:
        return usable
    kept = stratified_sample([_record(row, check) for row, check in usable], ctx.cfg.data.n, seed=ctx.cfg.data.seed)
    ids = {sample.sample_id for sample in kept.samples}
    ctx.reporter.info(f"prepare: {len(ids):,} of {len(usable):,} usable rows sampled, stratified by gender shown and context")
    return [(row, check) for row, check in usable if row.sample_id in ids]


def _record(row: TableRow, check: ImageCheck):
    from saebias.corpus.records import SampleRecord, image_id_of

    assert check.content_hash is not None
    image_id = image_id_of(check.content_hash)
    return SampleRecord(
        sample_id=row.sample_id,
        image_id=image_id,
        cluster_id=row.cluster_id or image_id,
        context=row.context,
        visual_gender=row.visual_gender,
        concept=row.concept,
        style=row.style,
        skin_tone=row.skin_tone,
        object=row.object,
        caption_en=row.captions_en[0] if row.captions_en else None,
        caption_ar=row.captions_ar[0] if row.captions_ar else None,
    )


def _gather(ctx: StageContext, usable: list[tuple[TableRow, ImageCheck]], problems: list[SampleProblem]) -> Corpus:
    from saebias.corpus.records import CaptionRecord, ImageRecord

    samples, captions, images, owner = [], [], {}, {}
    cluster_of: dict[str, str] = {}
    for row, check in usable:
        record = _record(row, check)
        # Two rows with the same picture are one cluster even when the table gives them two.
        record = replace(record, cluster_id=cluster_of.setdefault(record.image_id, record.cluster_id))
        samples.append(record)
        images.setdefault(
            record.image_id,
            ImageRecord(record.image_id, row.image, check.content_hash or "", check.width or 0, check.height or 0, check.format or "", check.n_bytes or 0, record.cluster_id),
        )
        for language, texts in (("en", row.captions_en), ("ar", row.captions_ar)):
            for index, text in enumerate(texts):
                caption = CaptionRecord(f"{row.sample_id}-{language}-{index}", record.image_id, language, index, text)
                captions.append(caption)
                owner[caption.caption_id] = row.sample_id
    paths = {image_id: image.path for image_id, image in images.items()}
    return Corpus(samples, list(images.values()), captions, owner, paths, _continuations(ctx), _reference_shares(ctx), problems)


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
        return [{column: row[column] for column in columns} for row in reader]
