"""How every figure looks: colours that stay apart for colour-blind readers, fonts with Arabic, and small drawing helpers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, TypeVar

import matplotlib
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from saebias.plots.tables import Row, gap

INK, MUTED, GRID, PAPER, BAND = "#1b2430", "#66707d", "#d9dee5", "#ffffff", "#c5ccd6"
# Okabe-Ito for languages and genders; Tol "muted" for arms, so that no arm looks like a language.
LANGUAGE_COLOURS = {"en": "#0072b2", "ar": "#d55e00"}
LANGUAGE_NAMES = {"en": "English", "ar": "Arabic", "ar-en": "Arabic - English"}
LANGUAGE_MARKERS = {"en": "o", "ar": "s"}
GENDER_COLOURS = {"woman": "#cc79a7", "man": "#009e73", "ambiguous": "#8a929c"}
GENDERS = ("woman", "man", "ambiguous")
OUTCOME_COLOURS = {"correct": "#9ecae1", "wrong": "#882255", "neutral": "#ddcc77", "mixed": "#aa4499", "no person": "#a9b1bb"}
SERIES_COLOURS = ("#332288", "#e69f00", "#44aa99", "#882255", "#56b4e9", "#999933", "#117733", "#aa4499")
ACCENT = "#332288"
GENDER_MAP = "PiYG_r"
GENDER_AXIS = "\u2190 man      woman \u2192"

Style = dict[str, Any]

RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "figure.dpi": 100,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "svg.fonttype": "path",
}

Drawing = TypeVar("Drawing", bound=Callable[..., Any])


def styled(draw: Drawing) -> Drawing:
    """Decorator: draw with the look of this file, and leave the settings of the caller's matplotlib alone."""

    @wraps(draw)
    def with_style(*args: Any, **kwargs: Any) -> Any:
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return with_style  # ty: ignore[invalid-explicit-return]


@cache
def _drawable() -> frozenset[int]:
    """Code points that the figures' font has."""
    return frozenset(font_manager.get_font(font_manager.findfont(RC["font.family"][0])).get_charmap())


def drawable(text: str) -> str:
    """`text` with every character that the figures' font lacks written as its code point (U+6600): a vocabulary holds all scripts, the font does not."""
    return "".join(character if ord(character) in _drawable() else f"U+{ord(character):04X}" for character in text)


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of `width` x `height` inches whose parts make room for each other."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.09, w_pad=0.06))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return figure


def finish(figure: Figure, note: str, legend: Mapping[str, Artist] | None = None, columns: int = 3, mark_scale: float = 1.0) -> Figure:
    """Add what the reader must know under the figure, and above it a legend (names with their artists); both get room of their own."""
    inches = figure.get_figheight()
    lines = textwrap.wrap(note, int(figure.get_figwidth() * 19))
    under = (0.12 + 0.135 * len(lines)) / inches if lines else 0.0
    rows = -(-len(legend) // columns) if legend else 0
    # The layout engine keeps a legend outside the axes but not outside this note, so its room is reserved here: 8-point rows and their padding.
    reserved = under + (0.14 + 0.17 * rows) / inches * bool(rows)
    figure.set_layout_engine(ConstrainedLayoutEngine(h_pad=0.09, w_pad=0.06, rect=(0, reserved, 1, 1 - reserved)))
    if lines:
        figure.text(0.01, 0.06 / inches, "\n".join(lines), va="bottom", fontsize=7, color=MUTED, linespacing=1.25, gid="footnote")
    if legend:
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, under), "borderaxespad": 0.1, "ncols": columns, "markerscale": mark_scale}
        figure.legend(list(legend.values()), list(legend), columnspacing=1.4, handletextpad=0.5, **place).set_in_layout(False)
    return figure


def from_zero(axes: Axes) -> None:
    """Let the value axis begin at 0 with a little room over the largest value."""
    axes.set_ylim(0, max(float(axes.dataLim.y1), 1e-9) * 1.08)


def named_artists(panels: Iterable[Axes]) -> dict[str, Artist]:
    """What a legend for several panels shows: each name once, with the first artist that carries it."""
    found: dict[str, Artist] = {}
    for axes in panels:
        for artist, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, artist)
    return found


def interval_line(axes: Axes, rows: Sequence[Row], colour: str, columns: tuple[str, str, str, str], **line: Any) -> Line2D:
    """Draw columns (x, value, low, high) as a line with a band; a missing value leaves a hole, a missing interval no band."""
    x, value, low, high = columns
    ordered = sorted(rows, key=lambda row: row[x])
    xs = [float(row[x]) for row in ordered]
    (drawn,) = axes.plot(xs, [gap(row, value) for row in ordered], color=colour, **line)
    axes.fill_between(xs, [gap(row, low) for row in ordered], [gap(row, high) for row in ordered], color=colour, alpha=0.16, linewidth=0)
    return drawn


def interval_points(axes: Axes, points: Sequence[tuple[float, Row]], columns: tuple[str, str, str], colour: str, upright: bool = True, **mark: Any) -> Line2D:
    """Draw columns (value, low, high) as marks with whiskers at the given places, upright or lying; returns the marks."""
    value, low, high = columns
    places = [place for place, _ in points]
    values = [gap(row, value) for _, row in points]
    for place, row in points:
        ends = [gap(row, low), gap(row, high)]
        axes.plot(*(([place, place], ends) if upright else (ends, [place, place])), color=colour, linewidth=1.2, alpha=0.75, solid_capstyle="butt")
    (drawn,) = axes.plot(*((places, values) if upright else (values, places)), linestyle="none", color=colour, **mark)
    return drawn


def layer_axis(axes: Axes, layers: Sequence[int]) -> None:
    """Name and number the layer axis with whole layers only, at most about twelve of them."""
    step = max(1, -(-len(layers) // 12))
    axes.set_xticks(list(layers)[::step])
    axes.set_xlabel("decoder layer")


def language_name(code: str) -> str:
    """The name of a language code as a reader calls it."""
    return LANGUAGE_NAMES.get(code, code)


def language_colour(code: str) -> str:
    """The colour of a language, the same in every figure."""
    return LANGUAGE_COLOURS.get(code, ACCENT)


def legend_below(axes: Axes, **more: Any) -> None:
    """A legend above the plotting area at the right, where no data are."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=more.pop("ncols", 4), borderaxespad=0.2, handletextpad=0.4, columnspacing=1.2, **more)
