"""Reading a researcher's own table of pictures and captions; a row that cannot be used is told, never dropped in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from saebias.corpus.caption_cells import BadCaption, captions_of, is_blank
from saebias.corpus.column_map import Binding, ColumnMap, bind
from saebias.corpus.records import SampleProblem
from saebias.corpus.table_formats import RowFault, column_names, table_rows
from saebias.errors import InputError
from saebias.report import Reporter, SilentReporter

GENDER_WORDS = {
    **dict.fromkeys(("f", "female", "woman"), "F"),
    **dict.fromkeys(("m", "male", "man"), "M"),
    **dict.fromkeys(("a", "ambiguous"), "A"),
}
CELL_CHARACTERS = 200
DUPLICATES_NAMED = 3
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One usable row: captions are not empty and in their script; the picture has not been looked at yet."""

    source: str
    row_number: int
    sample_id: str
    image: str
    """The path to open."""
    captions_en: tuple[str, ...]
    captions_ar: tuple[str, ...]
    context: str | None
    visual_gender: str | None
    cluster_id: str | None
    concept: str | None
    style: str | None
    skin_tone: str | None
    object: str | None
    n_blank_captions: int
    """Blank captions passed over beside real ones."""


@dataclass(frozen=True)
class TableRead:
    """A whole table: the usable rows, and each of the others with its reason."""

    rows: list[TableRow]
    problems: list[SampleProblem]


def read_table(
    path: str | Path,
    columns: ColumnMap | None = None,
    *,
    image_root: str | Path | None = None,
    delimiter: str | None = None,
    reporter: Reporter | None = None,
) -> TableRead:
    """Every row of a CSV, TSV, JSON lines or Parquet file, in memory. Arguments and errors are those of `iter_table`."""
    rows: list[TableRow] = []
    problems: list[SampleProblem] = []
    for row in iter_table(path, columns, image_root=image_root, delimiter=delimiter):
        if isinstance(row, TableRow):
            rows.append(row)
        else:
            problems.append(row)
    listener = reporter or SilentReporter()
    listener.info(f"{Path(path).name}: {len(rows):,} usable rows", n_rows=len(rows), n_problems=len(problems))
    if problems:
        first = problems[0]
        listener.warn(f"{Path(path).name}: {len(problems):,} rows set aside; the first, row {first.row_number}: {first.reason}", n_problems=len(problems))
    return TableRead(rows, problems)


def iter_table(
    path: str | Path,
    columns: ColumnMap | None = None,
    *,
    image_root: str | Path | None = None,
    delimiter: str | None = None,
) -> Iterator[TableRow | SampleProblem]:
    """The rows of a table one by one, a SampleProblem in the place of each that cannot be used; only sample ids are remembered.

    Picture paths are taken from `image_root`, else from the table's folder. `delimiter` overrides that of CSV and TSV. Raises InputError for a
    missing or empty table or column before the first row, and after the last one for repeated sample ids or when no row could be used.
    """
    path = Path(path)
    columns = columns or ColumnMap()
    binding = bind(path, columns, column_names(path, delimiter))
    root = path.parent if image_root is None else Path(image_root)
    return _checked_rows(path, columns, binding, root, delimiter)


def _checked_rows(path: Path, columns: ColumnMap, binding: Binding, root: Path, delimiter: str | None) -> Iterator[TableRow | SampleProblem]:
    genders = GENDER_WORDS | {word.strip().casefold(): gender for word, gender in columns.visual_gender_values.items()}
    row_of_id: dict[str, int] = {}
    repeated: list[str] = []
    n_repeated = n_rows = 0
    first_problem: SampleProblem | None = None
    for row_number, values in table_rows(path, binding.wanted, delimiter):
        n_rows += 1
        row = _row_or_problem(path, row_number, values, binding, root, genders)
        if isinstance(row, TableRow):
            earlier = row_of_id.setdefault(row.sample_id, row_number)
            if earlier != row_number and binding.places["sample_id"]:
                n_repeated += 1
                if n_repeated <= DUPLICATES_NAMED:
                    repeated.append(f"{row.sample_id!r} (rows {earlier} and {row_number})")
                continue
            if earlier != row_number:
                row = SampleProblem(str(path), row_number, row.sample_id, None, None, f"same picture and captions as row {earlier}")
        if isinstance(row, SampleProblem):
            first_problem = first_problem or row
        yield row
    if n_rows == 0:
        raise InputError(f"{str(path)!r} has no rows; it needs one per sample")
    if repeated:
        more = f" and {n_repeated - len(repeated)} more" if n_repeated > len(repeated) else ""
        raise InputError(
            f"sample ids repeat in {str(path)!r}: {', '.join(repeated)}{more}; make column {binding.wanted[binding.places['sample_id'][0]]!r} unique"
        )
    if first_problem is not None and not row_of_id:
        place = f", column {first_problem.column!r}" if first_problem.column else ""
        raise InputError(f"none of the {n_rows} rows of {str(path)!r} can be used; row {first_problem.row_number}{place}: {first_problem.reason}")


class _Fault(Exception):
    def __init__(self, fault: RowFault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


def _row_or_problem(
    path: Path, row_number: int, values: list[object] | RowFault, binding: Binding, root: Path, genders: Mapping[str, str]
) -> TableRow | SampleProblem:
    if isinstance(values, RowFault):
        return SampleProblem(str(path), row_number, None, values.column, shown(values.value), values.reason)
    sample_id = None
    try:
        _refuse_broken_text(values, binding)
        sample_id = _plain(values, binding, "sample_id")
        return _row(str(path), row_number, values, binding, root, genders)
    except _Fault as error:
        return SampleProblem(str(path), row_number, sample_id, error.fault.column, shown(error.fault.value), error.fault.reason)


def _row(source: str, row_number: int, values: list[object], binding: Binding, root: Path, genders: Mapping[str, str]) -> TableRow:
    picture = _plain(values, binding, "image")
    image_column = binding.column("image")
    if picture is None:
        raise _Fault(RowFault("no picture path", image_column))
    if _URL.match(picture):
        raise _Fault(RowFault("a web address, not a file; save the picture first", image_column, picture))
    captions_en, n_blank_en = _captions(values, binding, "en")
    captions_ar, n_blank_ar = _captions(values, binding, "ar")
    sample_id = _plain(values, binding, "sample_id")
    if sample_id is None and binding.places["sample_id"]:
        raise _Fault(RowFault("no sample id", binding.column("sample_id")))
    return TableRow(
        source,
        row_number,
        sample_id or made_sample_id(picture, captions_en, captions_ar),
        str(root / picture),
        captions_en,
        captions_ar,
        _plain(values, binding, "context"),
        _gender(values, binding, genders),
        _plain(values, binding, "cluster"),
        _plain(values, binding, "concept"),
        _plain(values, binding, "style"),
        _plain(values, binding, "skin_tone"),
        _plain(values, binding, "object"),
        n_blank_en + n_blank_ar,
    )


def made_sample_id(picture: str, captions_en: tuple[str, ...], captions_ar: tuple[str, ...]) -> str:
    """A sample id of 16 hex digits for a table without ids: from path and captions, so it does not change when rows move."""
    return blake2b("\0".join((picture, *captions_en, "\1", *captions_ar)).encode(), digest_size=8).hexdigest()


def _captions(values: list[object], binding: Binding, language: str) -> tuple[tuple[str, ...], int]:
    places = binding.places[f"caption_{language}"]
    if not places:
        return (), 0
    try:
        texts, n_blank = captions_of([values[place] for place in places], language)
    except BadCaption as error:
        raise _Fault(RowFault(error.reason, ", ".join(binding.wanted[place] for place in places), None if error.value is None else str(error.value))) from None
    return tuple(texts), n_blank


def _plain(values: list[object], binding: Binding, name: str) -> str | None:
    """The text of a plain cell without outer white space; None where there is no such column or the cell is blank."""
    places = binding.places[name]
    value = values[places[0]] if places else None
    # Parquet written from data frames has NaN where nothing was.
    if value is None or value != value:
        return None
    if isinstance(value, (list, dict)):
        raise _Fault(RowFault(f"{name} must be one value, not {type(value).__name__}", binding.wanted[places[0]], str(value)))
    text = str(value).strip()
    return None if is_blank(text) else text


def _gender(values: list[object], binding: Binding, genders: Mapping[str, str]) -> str | None:
    text = _plain(values, binding, "visual_gender")
    if text is None:
        return None
    if text.casefold() not in genders:
        column = binding.column("visual_gender")
        raise _Fault(RowFault("not a visual gender; use F, M, A or leave it empty, or map its words", column, text))
    return genders[text.casefold()]


def _refuse_broken_text(values: list[object], binding: Binding) -> None:
    for place, value in enumerate(values):
        for text in value if isinstance(value, list) else (value,):
            if not isinstance(text, str):
                continue
            if "\0" in text:
                raise _Fault(RowFault("a NUL character; remove it", binding.wanted[place], text))
            if not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise _Fault(RowFault("bytes that are not UTF-8; save the table as UTF-8", binding.wanted[place], text)) from None


def shown(value: object) -> str | None:
    """A cell as a problem shows it: at most 200 characters, broken bytes as escapes; None for nothing."""
    if value is None:
        return None
    text = str(value).encode(errors="backslashreplace").decode()
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"
