"""`saebias score`: what was asked to a configuration, the run, and its tables to stdout."""

from __future__ import annotations

import codecs
import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from saebias.cli.console import make_reporter
from saebias.cli.tables import output, print_rows
from saebias.config.load import load_config
from saebias.config.schema import Config
from saebias.corpus.label_files import PLAIN
from saebias.corpus.table_formats import SUFFIXES, column_names
from saebias.errors import InputError
from saebias.pipeline.planning import plan
from saebias.pipeline.runner import run_stages
from saebias.pipeline.stage import Stage
from saebias.report import Reporter
from saebias.stages.score_captions import SCORE, SCORE_BENCHMARK, check_score
from saebias.store.catalogue import catalogue_path
from saebias.store.parts import part_paths

FORMATS = ("table", "csv", "json")
TABLE_ROWS = 200
"""Labels of more captions than this are not for reading: --format csv gives them all."""

SHOWN = {
    "summary": ("score_summary", ("side", "language", "context", "measure", "value", "low", "high", "hits", "total", "note")),
    "audit": ("score_forms", ("side", "language", "form", "gender", "rule", "counted", "captions")),
    "labels": ("scored_captions", ("side", "row_number", "language", "image_id", "label", "explicit", "ambiguous", "text", "evidence", "problem")),
    "benchmark": ("score_benchmark", ("dataset", "part", "language", "gender", "measure", "value", "low", "high", "hits", "n")),
}
"""What can be printed: its table and the columns, in order."""


@dataclass(frozen=True)
class Asked:
    """The arguments of the command."""

    file: Path | None
    compare: Path | None
    benchmark: Path | None
    language: str | None
    columns: dict[str, str | None]
    what: str
    """summary, audit or labels."""
    format: str


def run_score_command(asked: Asked, config: Path | None, overrides: Sequence[str], *, force: bool, quiet: bool) -> int:
    """Score (or measure the labels), print to stdout and return the exit code. Raises InputError for arguments that do not go together."""
    if asked.format not in FORMATS:
        raise InputError(f"--format {asked.format}: choose one of {', '.join(FORMATS)}")
    cfg = _configured(load_config(config, overrides), asked)
    reporter = make_reporter(quiet)
    stage, what = (SCORE_BENCHMARK, "benchmark") if cfg.score.benchmark is not None else (SCORE, asked.what)
    try:
        run_stages(cfg, [stage], [stage.name], reporter, force=force)
    except KeyboardInterrupt:
        print("saebias: stopped; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    with output():
        _print(cfg, stage, what, asked.format, reporter)
    return 0


def _configured(cfg: Config, asked: Asked) -> Config:
    given = {name: value for name, value in (("file", asked.file), ("compare", asked.compare), ("benchmark", asked.benchmark)) if value is not None}
    if asked.language not in (None, "en", "ar"):
        raise InputError(f"--language {asked.language}: captions are labelled in en and ar")
    if asked.language is not None and asked.columns["language"] is not None:
        raise InputError(f"--language {asked.language} and --language-column {asked.columns['language']}: give one of them")
    language = {} if asked.language is None else {"language": asked.language}
    columns = {name: column for name, column in asked.columns.items() if column is not None}
    score = cfg.score.model_copy(update={**given, **language, "columns": cfg.score.columns.model_copy(update=columns)})
    if (score.file is None) == (score.benchmark is None):
        raise InputError("score a FILE of captions, or measure the labels with --benchmark DIR: give one of them (see saebias score --help)")
    # Whoever wrote the captions, it was not the captioner of the configuration: the record of the run says what was read.
    read = score.file or score.benchmark
    cfg = cfg.model_copy(update={"model": cfg.model.model_copy(update={"name": "" if read is None else read.name})})
    if score.benchmark is not None:
        if not score.benchmark.is_dir():
            raise InputError(f"--benchmark {score.benchmark}: there is no such folder")
        return cfg.model_copy(update={"score": score})
    assert score.file is not None
    if score.language is None and score.columns.language is None and _has_language_column(score.file):
        score = score.model_copy(update={"columns": score.columns.model_copy(update={"language": "language"})})
    cfg = cfg.model_copy(update={"score": score})
    check_score(cfg)
    return cfg


def _has_language_column(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES and path.suffix.lower() not in PLAIN and "language" in column_names(path)


def _print(cfg: Config, stage: Stage, what: str, format_: str, reporter: Reporter) -> None:
    folder = plan(cfg, [stage])[stage.name].folder
    table, columns = SHOWN[what]
    rows = (row for path in _parts(folder, table) for batch in pq.ParquetFile(path).iter_batches(2048, columns=list(columns)) for row in batch.to_pylist())
    _WRITERS[format_](rows, columns)
    if what == "summary":
        alarms = (row for path in _parts(folder, table) for row in pq.read_table(path).to_pylist() if row["measure"] == "alarm")
        for alarm in alarms:
            reporter.warn(f"{alarm['language']}: {alarm['note']}")
    reporter.info(f"catalogue: {catalogue_path(cfg.runtime.artifacts)} - table {table}, and `saebias query` lists named questions")


def _parts(folder: Path, table: str) -> list[Path]:
    # The file before the one it is compared with.
    return sorted(part_paths(folder, table), key=lambda path: (path.name.startswith("compare-"), path.name))


def _utf8_stdout() -> codecs.StreamWriter:
    # A text wrapper would close stdout behind our back when its reader goes away.
    return codecs.getwriter("utf-8")(sys.stdout.buffer)


def _write_csv(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    writer = csv.DictWriter(_utf8_stdout(), fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _write_json(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    # One row after another: a million labels are no list in memory.
    stream = _utf8_stdout()
    between = "["
    for row in rows:
        if row.get("evidence") is not None:
            row["evidence"] = json.loads(row["evidence"])
        stream.write(f"{between}\n {json.dumps({name: row[name] for name in columns}, ensure_ascii=False)}")
        between = ","
    stream.write("[]\n" if between == "[" else "\n]\n")


def _write_table(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    shown = list(islice(rows, TABLE_ROWS + 1))
    used = [name for name in columns if any(row[name] is not None for row in shown)]
    numeric = [all(row[name] is None or (isinstance(row[name], int | float) and not isinstance(row[name], bool)) for row in shown) for name in used]
    print_rows(used, numeric, [[_cell(name, row[name]) for name in used] for row in shown[:TABLE_ROWS]])
    if len(shown) > TABLE_ROWS:
        print(f"the first {TABLE_ROWS} rows; --format csv or json gives all", file=sys.stderr)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "evidence":
        return " ".join(f"{item['surface']}={item['gender']}" for item in json.loads(value))
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


_WRITERS: dict[str, Callable[[Iterable[dict[str, Any]], Sequence[str]], None]] = {"table": _write_table, "csv": _write_csv, "json": _write_json}
