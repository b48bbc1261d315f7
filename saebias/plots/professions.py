"""Profession figures: P(woman) in both languages, and planted against recovered shares."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.style import BAND, LANGUAGE_MARKERS, MUTED, Style, finish, interval_points, language_colour, language_name, legend_below, new_figure, styled
from saebias.plots.tables import Row, Table, count_note, distinct, gap, missing_note, number, require_numbers, rows_of, sentences

SKEW = ("profession", "language", "p_female", "low", "high", "planted", "woman_ar", "man_ar", "n_images", "n_clusters", "note")
RECOVERY = ("profession", "language", "planted", "recovered", "low", "high", "n_images", "n_clusters")


@styled
def draw_profession_skew(table: Table, top: int = 40) -> Figure:
    """P(woman | woman or man) on images that do not say, one line per profession, both languages with intervals and the planted share as a tick.

    `table`: rows of the view `profession_skew`; the `top` professions farthest from 1/2 are drawn, ordered by their mean.
    """
    name = "profession_skew"
    rows = rows_of(table, name, SKEW)
    require_numbers(rows, "p_female", name)
    names, left_out = _most_skewed(rows, top)
    languages = distinct(rows, "language", LANGUAGES)
    figure = new_figure(8.0, 1.5 + 0.3 * len(names), "Who is called a woman when the picture does not say")
    axes = figure.add_subplot()
    _join_languages(axes, rows, names)
    for shift, language in zip(_shifts(len(languages)), languages, strict=True):
        chosen = {row["profession"]: row for row in rows if row["language"] == language}
        points = [(place + shift, chosen[each]) for place, each in enumerate(names) if each in chosen]
        colour = language_colour(language)
        marks: Style = {"marker": LANGUAGE_MARKERS.get(language, "D"), "markersize": 5.5, "label": language_name(language)}
        interval_points(axes, points, ("p_female", "low", "high"), colour, upright=False, **marks)
        if any(number(row, "planted") is not None for _, row in points):
            places: Style = {"marker": "|", "markersize": 10, "markeredgewidth": 1.6, "alpha": 0.55, "label": f"{language_name(language)}: planted"}
            axes.plot([gap(row, "planted") for _, row in points], [place for place, _ in points], linestyle="none", color=colour, **places)
    axes.axvline(0.5, color=MUTED, linewidth=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(names) - 0.3), xlabel="P(woman | woman or man), ambiguous images       \u2190 man    |    woman \u2192")
    axes.set_yticks(range(len(names)), [_both_names(each, rows) for each in names])
    axes.grid(axis="y", visible=False)
    legend_below(axes)
    cut = f"The {len(names)} most skewed of {len(names) + left_out} professions." if left_out else ""
    drawn = [row for row in rows if row["profession"] in names]
    return finish(
        figure, sentences("Whiskers: 95 % image-cluster intervals.", count_note(drawn), cut, missing_note(drawn, "p_female", ("profession", "language")))
    )


@styled
def draw_plant_recovery(table: Table) -> Figure:
    """The planted share of women against the recovered one, with intervals and the line of perfect recovery.

    `table`: rows of the view `plant_recovery`.
    """
    name = "plant_recovery"
    rows = rows_of(table, name, RECOVERY)
    require_numbers(rows, "recovered", name)
    languages = distinct(rows, "language", LANGUAGES)
    figure = new_figure(3.6 * len(languages) + 0.6, 4.4, "What was planted, and what was found again")
    panels = figure.subplots(1, len(languages), sharex=True, sharey=True, squeeze=False)[0]
    for axes, language in zip(panels, languages, strict=True):
        chosen = [row for row in rows if row["language"] == language]
        axes.plot([0, 1], [0, 1], color=BAND, linewidth=1.4, zorder=1, gid="identity")
        points = [(float(row["planted"]), row) for row in chosen]
        marks: Style = {"marker": LANGUAGE_MARKERS.get(language, "D"), "markersize": 5, "alpha": 0.9}
        interval_points(axes, points, ("recovered", "low", "high"), language_colour(language), **marks)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=language_name(language), xlabel="planted P(woman)")
    panels[0].set_ylabel("recovered P(woman)")
    note = "Line: perfect recovery. Whiskers: 95 % image-cluster intervals."
    return finish(figure, sentences(note, count_note(rows), missing_note(rows, "recovered", ("profession", "language"))))


def _most_skewed(rows: list[Row], top: int) -> tuple[list[str], int]:
    """The names to draw from bottom to top (by mean over languages; wholly missing ones lowest), and how many were left out."""
    values: dict[str, list[float]] = {name: [] for name in distinct(rows, "profession")}
    for row in rows:
        value = number(row, "p_female")
        if value is not None:
            values[row["profession"]].append(value)
    by_skew = sorted(values, key=lambda name: max((abs(value - 0.5) for value in values[name]), default=-1.0), reverse=True)[:top]
    order = sorted(by_skew, key=lambda name: (sum(values[name]) / len(values[name]) if values[name] else -1.0, name))
    return order, len(values) - len(order)


def _join_languages(axes: Axes, rows: list[Row], names: list[str]) -> None:
    """A pale bar from the lowest to the highest language of each profession."""
    for place, name in enumerate(names):
        values = [value for row in rows if row["profession"] == name and (value := number(row, "p_female")) is not None]
        if len(values) > 1:
            axes.plot([min(values), max(values)], [place, place], color=BAND, linewidth=2.5, solid_capstyle="round", alpha=0.8, zorder=1, gid="dumbbell")


def _shifts(n: int) -> list[float]:
    """Small offsets that keep the whiskers of n languages apart on one line."""
    return [0.11 * (n - 1) - 0.22 * each for each in range(n)]


def _both_names(name: str, rows: list[Row]) -> str:
    """The profession in English, and its feminine and masculine Arabic forms where they are known."""
    first = next(row for row in rows if row["profession"] == name)
    arabic = " / ".join(form for form in (first["woman_ar"], first["man_ar"]) if form)
    return f"{name}   {arabic}" if arabic else name
