"""`score`: gender labels of any captions file, chunk by chunk, then shares, rates and alarms over all of them.

Not a stage of the pipeline: it needs no other and none needs it. Its run lies beside theirs and is folded into the same catalogue.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from saebias.config.schema import Config
from saebias.errors import InputError
from saebias.pipeline.stage import Stage, StageContext
from saebias.stages.label_access import label_sources, labeller_of, lexicon_files
from saebias.store.parts import damage
from saebias.store.tables import arrow_schemas

if TYPE_CHECKING:
    from saebias.corpus.label_files import CaptionRow
    from saebias.corpus.labels import CaptionLabel, Evidence

CHUNK_ROWS = 20_000
CHUNK_CHARACTERS = 1 << 23
"""A chunk ends here too: long captions must not make it large."""


def run_score(ctx: StageContext) -> None:
    """Label the file (and the one it is compared with) into Parquet parts, then sum the parts up."""
    from saebias.stages.score_summary import summarise

    sides = files_of(ctx.cfg)
    for side, path in sides.items():
        _label_file(ctx, side, path)
    for name in ctx.pending(["summary"]):
        summary, forms = summarise(ctx, sides)
        with ctx.unit(name) as out:
            out.rows("score_summary", summary)
            out.rows("score_forms", forms)


def files_of(cfg: Config) -> dict[str, Path]:
    """Side (`file`, `compare`) -> captions file, of those that are named."""
    named = {"file": cfg.score.file, "compare": cfg.score.compare}
    return {side: path for side, path in named.items() if path is not None}


def rows_of(cfg: Config, path: Path) -> Iterator[CaptionRow]:
    """The captions of one file, read as the configuration says."""
    from saebias.corpus.label_files import CaptionColumns, caption_rows

    columns = CaptionColumns(**cfg.score.columns.model_dump())
    return map(_usable, caption_rows(path, columns, cfg.score.language))


def _usable(row: CaptionRow) -> CaptionRow:
    """The row, or the row set aside: an empty caption says nothing, not even that nobody is there; a name of broken bytes names nothing."""
    if row.problem is not None:
        return row
    if not row.text.strip():
        return replace(row, problem="the caption is empty")
    for name, value in (("image id", row.image_id), ("context", row.context), ("reference", row.reference)):
        # Bytes that are not UTF-8 come as lone surrogates.
        if value is not None and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            return replace(row, problem=f"the {name} is not UTF-8")
    return row


def _label_file(ctx: StageContext, side: str, path: Path) -> None:
    kept = 0
    with ctx.reporter.task(f"labelling {path.name}", count_rows(path), "captions") as task:
        for number, chunk in enumerate(chunks(rows_of(ctx.cfg, path))):
            unit = f"{side}-{number:06d}"
            reason = damage(ctx.folder, unit)
            if reason is None:
                kept += 1
            else:
                if reason != "not done":
                    ctx.reporter.warn(f"score {unit}: {reason}; doing this unit again")
                with ctx.unit(unit) as out:
                    out.rows("scored_captions", scored_rows(ctx.cfg, side, chunk))
            task.advance(len(chunk))
    if kept:
        ctx.reporter.info(f"score: {kept} chunks of {path.name} are done already")


def chunks(rows: Iterable[CaptionRow]) -> Iterator[list[CaptionRow]]:
    """Rows in order, at most CHUNK_ROWS and about CHUNK_CHARACTERS at a time: the same chunks for the same file."""
    chunk: list[CaptionRow] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += len(row.text)
        if len(chunk) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def count_rows(path: Path) -> int:
    """How many rows a captions file has, for the progress bar: exact for Parquet, lines elsewhere."""
    if path.suffix.lower() in (".parquet", ".pq"):
        return pq.ParquetFile(path).metadata.num_rows
    lines = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            lines += block.count(b"\n")
    return lines


def scored_rows(cfg: Config, side: str, rows: Iterable[CaptionRow]) -> pa.Table:
    """The rows of `scored_captions` of one chunk: labelled, or set aside with their problem."""
    columns: dict[str, list[Any]] = {name: [] for name in arrow_schemas()["scored_captions"].names}
    label_in = {language: labeller_of(cfg, language) for language in ("en", "ar")}
    for row in rows:
        for name, value in _scored(side, row, label_in).items():
            columns[name].append(value)
    schema = arrow_schemas()["scored_captions"]
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema})


def _scored(side: str, row: CaptionRow, label_in: dict[str, Callable[[str], CaptionLabel]]) -> dict[str, Any]:
    if row.problem is not None:
        return dict.fromkeys(_LABELLED) | {"side": side, "row_number": row.row_number, "problem": row.problem}
    label = label_in[row.language](row.text)
    return {
        "side": side,
        "row_number": row.row_number,
        "language": row.language,
        "image_id": row.image_id,
        "context": row.context,
        "reference": row.reference,
        "text": row.text,
        "label": label.label,
        "explicit": label.explicit,
        "ambiguous": label.ambiguous,
        "evidence": _as_json(label.evidence),
        "rejected": _as_json(label.rejected),
        "n_words": label.words,
        "reference_label": _reference_label(row.reference, label_in[row.language]),
        "problem": None,
    }


_LABELLED = (*("language", "image_id", "context", "reference", "text", "label", "explicit", "ambiguous", "evidence", "rejected", "n_words", "reference_label"),)


def _as_json(evidence: Sequence[Evidence]) -> str:
    return json.dumps([item._asdict() for item in evidence], ensure_ascii=False) if evidence else "[]"


def _reference_label(reference: str | None, label_of: Callable[[str], CaptionLabel]) -> str | None:
    """The label a reference gives: itself where it is one, else what the reference caption says (Arabic masculine by grammar alone says N)."""
    from saebias.corpus.labels import LABELS

    given = "" if reference is None else reference.strip()
    if not given or given in LABELS:
        return given or None
    label = label_of(given)
    return "N" if label.label == "M" and not label.explicit else label.label


def check_score(cfg: Config) -> None:
    """Raise InputError for whatever can be known to be wrong before the first row is labelled; nothing is written."""
    from saebias.corpus.label_files import PLAIN
    from saebias.corpus.label_lexicon import extra_entries
    from saebias.corpus.table_formats import SUFFIXES

    extra_entries(cfg.labels.extra_lexicon, "en")
    for path in files_of(cfg).values():
        if not path.is_file():
            raise InputError(f"{path}: there is no such file; give a file of captions ({', '.join((*SUFFIXES, *PLAIN))})")
        named = {name: column for name, column in cfg.score.columns.model_dump(exclude_defaults=True).items() if column is not None}
        if path.suffix.lower() in PLAIN and named:
            name, column = next(iter(named.items()))
            raise InputError(f"{path}: plain lines have no columns, but {name.replace('_', '-')} is to be column {column!r}; give a table, or leave it out")
        if next(rows_of(cfg, path), None) is None:
            raise InputError(f"{path} holds no caption; give one caption a line, or a table with a row for each")


def _inputs(cfg: Config) -> list[Path]:
    return [*files_of(cfg).values(), *lexicon_files(cfg), *label_sources()]


SCORE = Stage(
    name="score",
    run=run_score,
    help="gender labels of a captions file",
    reads=("labels", "score.language", "score.columns"),
    tables=("scored_captions", "score_summary", "score_forms"),
    inputs=_inputs,
)


def run_benchmark(ctx: StageContext) -> None:
    """Measure the labels on public data with known gender; MT-GenEval also by halves, since the rules were written on one of them."""
    from saebias.corpus.label_benchmark import score_benchmarks

    folder = ctx.cfg.score.benchmark
    assert folder is not None
    halves: dict[str, Callable[[str], bool]] = {"even half (tuned on)": lambda key: _half(key) == 0, "odd half (unseen)": lambda key: _half(key) == 1}
    for name in ctx.pending(["benchmark"]):
        found = [("all", row) for row in score_benchmarks(folder)]
        for part, keep in halves.items():
            found += [(part, row) for row in score_benchmarks(folder, keep) if row.dataset == "mt_geneval"]
        rows = []
        for place, (part, row) in enumerate(found):
            numbers = {key: getattr(row, key) if row.n else None for key in ("value", "low", "high")}
            words = {key: getattr(row, key) for key in ("dataset", "language", "gender", "measure", "hits", "n")}
            rows.append({"place": place, "part": part, **words, **numbers})
        with ctx.unit(name) as out:
            out.rows("score_benchmark", rows)


def _half(key: str) -> int | None:
    # What quality.tsv calls the odd half: sentences 1, 3, 5 ... of MT-GenEval.
    dataset, _, place = key.partition(":")
    return int(place) % 2 if dataset == "mt_geneval" else None


SCORE_BENCHMARK = Stage(
    name="score.benchmark",
    run=run_benchmark,
    help="how good the gender labels are",
    tables=("score_benchmark",),
    inputs=lambda cfg: [*([] if cfg.score.benchmark is None else [cfg.score.benchmark]), *label_sources()],
)
