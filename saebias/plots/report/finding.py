"""One sentence of the report and how its numbers are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from saebias.plots.style import language_name
from saebias.plots.tables import Row, number

SHOWN, ABSENT, UNKNOWN = "shown", "absent", "unknown"


@dataclass(frozen=True)
class Finding:
    """One sentence; verdict says whether the effect is shown, not shown (its interval covers nothing-happens), or unknown."""

    text: str
    verdict: str


def figures_of(value: float) -> str:
    """A number as the report writes it: three decimals, a true minus."""
    return f"{value:.3f}".replace("-", "\u2212")


def with_interval(row: Row, value: str = "value", low: str = "low", high: str = "high") -> str:
    """`0.243 (95 % interval 0.221 to 0.262)`; says so when there is no interval."""
    middle, ends = number(row, value), (number(row, low), number(row, high))
    assert middle is not None
    if ends[0] is None or ends[1] is None:
        return f"{figures_of(middle)} (no interval)"
    return f"{figures_of(middle)} (95 % interval {figures_of(ends[0])} to {figures_of(ends[1])})"


def leaves_out(row: Row, null: float, low: str = "low", high: str = "high") -> bool | None:
    """Whether the interval of `row` leaves out `null`; None when there is no interval."""
    ends = (number(row, low), number(row, high))
    return None if ends[0] is None or ends[1] is None else ends[0] > null or ends[1] < null


def find_row(rows: Iterable[Row], **wanted: object) -> Row | None:
    """The first row whose columns have the wanted values."""
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def not_measured(what: str, language: str, row: Row | None) -> Finding:
    """The finding that something was not measured, with the reason that its row gives."""
    reason = f": {row['note']}" if row is not None and row.get("note") else ""
    return Finding(f"{language_name(language)}: {what} was not measured{reason}.", UNKNOWN)
