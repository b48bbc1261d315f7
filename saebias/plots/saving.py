"""A figure on disk: SVG, PNG and the CSV it was drawn from, each written beside and renamed."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from saebias.errors import InputError, StoreError
from saebias.plots.style import RC
from saebias.plots.tables import Table, rows_of


@dataclass(frozen=True)
class SavedFigure:
    """Where a figure lies; `n_points` counts the rows of its CSV."""

    name: str
    svg: Path
    png: Path
    csv: Path
    n_points: int


def table_csv(table: Table, name: str = "table") -> str:
    """`table` as CSV text: header, one line per row, an empty field for a missing value, floats with all their digits."""
    rows = rows_of(table, name)
    lines = io.StringIO()
    writer = csv.DictWriter(lines, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return lines.getvalue()


def settle(figure: Figure) -> None:
    """Lay the figure out once and keep that layout: each file format would do it again, at half the price of drawing."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def figure_svg(figure: Figure, name: str) -> str:
    """`figure` as SVG text, the same bytes for the same picture; Arabic is kept as shaped outlines."""
    buffer = io.StringIO()
    with matplotlib.rc_context(RC | {"svg.hashsalt": name}):
        settle(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def figure_png(figure: Figure, dpi: int = 160) -> bytes:
    """`figure` as PNG bytes at `dpi` dots per inch."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC):
        FigureCanvasAgg(figure)
        settle(figure)
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def save_figure(figure: Figure, table: Table, folder: Path, name: str) -> SavedFigure:
    """Write `<name>.svg`, `<name>.png` and `<name>.csv` (the rows of `table`) into `folder`; each appears whole or not at all.

    Raises InputError for an empty table and StoreError when the folder cannot be written.
    """
    if not name.replace("_", "").replace("-", "").isalnum():
        raise InputError(f"figure name {name!r} is not a file name; use letters, digits, _ and -")
    rows = rows_of(table, name)
    saved = SavedFigure(name, folder / f"{name}.svg", folder / f"{name}.png", folder / f"{name}.csv", len(rows))
    contents = {saved.csv: table_csv(rows, name).encode("utf-8"), saved.png: figure_png(figure), saved.svg: figure_svg(figure, name).encode("utf-8")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            write_whole(path, content)
    except OSError as error:
        raise StoreError(f"figure {name} cannot be written to {folder}: {error.strerror}; free space there or choose another folder") from error
    return saved


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` by a temporary name and a rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
