"""From table rows and picture checks to the records of a corpus: the step at which a row meets its picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saebias.corpus.grouping import Groups
from saebias.corpus.images import ImageCheck
from saebias.corpus.records import CaptionRecord, ImageRecord, SampleProblem, SampleRecord, image_id_of
from saebias.corpus.tables import TableRow, shown
from saebias.errors import InputError


@dataclass(frozen=True)
class Corpus:
    """Everything that was read: records in table order (each image once), and the rows set aside."""

    images: list[ImageRecord]
    captions: list[CaptionRecord]
    samples: list[SampleRecord]
    problems: list[SampleProblem]


def join_pictures(rows: Sequence[TableRow], checks: Sequence[ImageCheck], near_duplicates: Mapping[str, str] | None = None) -> Corpus:
    """The corpus of `rows` and the checks of their pictures (with content hashes; one check per path is enough).

    The same bytes under two paths are one image. A cluster is what the table says, joined with `near_duplicates` (content hash -> cluster) and with
    whatever shares an image; without either it is the image alone. Rows with a bad picture, and rows whose picture another row gives another visual
    gender, come as problems. Raises InputError where a row's picture was not checked or not hashed.
    """
    check_of = {check.path: check for check in checks}
    problems: list[SampleProblem] = []
    usable: list[tuple[TableRow, ImageCheck, str]] = []
    for row in rows:
        check = check_of.get(row.image)
        if check is None or (check.ok and check.content_hash is None):
            raise InputError(f"picture {row.image!r} of row {row.row_number} has no check with a content hash; check its images with content_hash=True")
        if check.ok and check.content_hash is not None:
            usable.append((row, check, check.content_hash))
        else:
            problems.append(SampleProblem(row.source, row.row_number, row.sample_id, "image", shown(row.image), check.reason or "unusable picture"))
    usable, contradictions = _without_contradictions(usable)
    cluster_of = _clusters(usable, near_duplicates or {})
    captions = [caption for row, _, digest in usable for caption in _captions(row, image_id_of(digest))]
    samples = [_sample(row, image_id_of(digest), cluster_of[digest]) for row, _, digest in usable]
    return Corpus(_images(usable, cluster_of), captions, samples, problems + contradictions)


Usable = list[tuple[TableRow, ImageCheck, str]]


def _without_contradictions(usable: Usable) -> tuple[Usable, list[SampleProblem]]:
    rows_of: dict[str, dict[str, int]] = defaultdict(dict)
    for row, _, digest in usable:
        if row.visual_gender is not None:
            rows_of[digest].setdefault(row.visual_gender, row.row_number)
    kept: Usable = []
    problems = []
    for row, check, digest in usable:
        if len(rows_of[digest]) < 2 or row.visual_gender is None:
            kept.append((row, check, digest))
            continue
        said = " and ".join(f"{gender} in row {number}" for gender, number in sorted(rows_of[digest].items()))
        problems.append(SampleProblem(row.source, row.row_number, row.sample_id, "visual_gender", row.visual_gender, f"the same picture is {said}"))
    return kept, problems


def _clusters(usable: Usable, near_duplicates: Mapping[str, str]) -> dict[str, str]:
    """Content hash -> cluster id: the smallest of the names that its group has, from the table before those made from pictures."""
    groups: Groups[tuple[str, str]] = Groups()
    for row, _, digest in usable:
        groups.root(("image", digest))
        if row.cluster_id is not None:
            groups.join(("image", digest), ("table", row.cluster_id))
        if digest in near_duplicates:
            groups.join(("image", digest), ("alike", near_duplicates[digest]))
    cluster_of = {}
    for members in groups.members():
        named = sorted(name for kind, name in members if kind == "table")
        alike = sorted(name for kind, name in members if kind == "alike")
        cluster = (named or alike or sorted(image_id_of(name) for _, name in members))[0]
        cluster_of.update((name, cluster) for kind, name in members if kind == "image")
    return cluster_of


def _images(usable: Usable, cluster_of: Mapping[str, str]) -> list[ImageRecord]:
    images: dict[str, ImageRecord] = {}
    for row, check, digest in usable:
        if digest in images and images[digest].path <= row.image:
            continue
        # Sound checks carry all of these.
        assert check.width is not None and check.height is not None and check.format is not None and check.n_bytes is not None
        images[digest] = ImageRecord(image_id_of(digest), row.image, digest, check.width, check.height, check.format, check.n_bytes, cluster_of[digest])
    return list(images.values())


def _captions(row: TableRow, image_id: str) -> list[CaptionRecord]:
    return [
        CaptionRecord(f"{row.sample_id}-{language}-{index}", image_id, language, index, text)
        for language, texts in (("en", row.captions_en), ("ar", row.captions_ar))
        for index, text in enumerate(texts)
    ]


def _sample(row: TableRow, image_id: str, cluster_id: str) -> SampleRecord:
    return SampleRecord(
        sample_id=row.sample_id,
        image_id=image_id,
        cluster_id=cluster_id,
        context=row.context,
        visual_gender=row.visual_gender,
        concept=row.concept,
        style=row.style,
        skin_tone=row.skin_tone,
        object=row.object,
        caption_en=row.captions_en[0] if row.captions_en else None,
        caption_ar=row.captions_ar[0] if row.captions_ar else None,
    )
