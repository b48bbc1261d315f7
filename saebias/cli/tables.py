"""Tables on stdout: nothing is cut, and a reader that goes away is no error."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

NARROWEST = 12
"""A column of text is folded to no less than this."""


class _PipedConsole(Console):
    def on_broken_pipe(self) -> None:
        # rich would end the program with code 1 here.
        raise


@contextmanager
def output() -> Generator[None]:
    """Write to stdout in here: when its reader (head, less) has gone, the rest is dropped without a word."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer must not be tried again when the program ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout_console(width: int = 200) -> Console:
    """A console for plain text on stdout: as wide as the terminal, `width` elsewhere."""
    return _PipedConsole(width=None if sys.stdout.isatty() else width, highlight=False, markup=False, emoji=False)


def print_rows(names: Sequence[str], numeric: Sequence[bool], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whole: long text is folded; where even that is wider than the terminal, each row is printed as lines `name  value`."""
    natural = [max([cell_len(name), *(cell_len(row[place]) for row in rows)]) for place, name in enumerate(names)]
    full = sum(natural) + 3 * len(names) + 1
    # Folding is for eyes: a file or a program gets each row on one line.
    console = stdout_console(max(200, full))
    least = [width if is_number else max(len(name), min(width, NARROWEST)) for name, width, is_number in zip(names, natural, numeric, strict=True)]
    if sum(least) + 3 * len(names) + 1 > console.width:
        _print_lines(console, names, rows)
        return
    table = Table()
    for name, is_number, width in zip(names, numeric, least, strict=True):
        table.add_column(name, justify="right" if is_number else "left", overflow="fold", min_width=width)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _print_lines(console: Console, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widest = max(len(name) for name in names)
    for number, row in enumerate(rows, start=1):
        console.print(f"row {number}", style="bold")
        for name, value in zip(names, row, strict=True):
            console.print(f"  {name:<{widest}}  {value}", overflow="fold")
