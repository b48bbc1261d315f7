"""One sentence of the report and how its numbers are written."""

from __future__ import annotations

import math
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


def difference(one: Row, other: Row, value: str = "value", low: str = "low", high: str = "high") -> tuple[float, float, float] | None:
    """(difference, low, high) of two rows from their own intervals (Zou 2007, Psychological Methods 12:399); None where a number is missing.

    Numbers of the same images go together, so that the true interval is narrower: what is told apart here is apart.
    """
    ours, theirs = ([number(row, column) for column in (value, low, high)] for row in (one, other))
    if None in ours or None in theirs:
        return None
    (a, a_low, a_high), (b, b_low, b_high) = ([float(each) for each in side if each is not None] for side in (ours, theirs))
    return a - b, a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def find_row(rows: Iterable[Row], **wanted: object) -> Row | None:
    """The first row whose columns have the wanted values."""
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def not_measured(what: str, language: str, row: Row | None) -> Finding:
    """The finding that something was not measured, with the reason that its row gives."""
    reason = f": {row['note']}" if row is not None and row.get("note") else ""
    return Finding(f"{language_name(language)}: {what} was not measured{reason}.", UNKNOWN)
