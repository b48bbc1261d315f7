"""Is the effect more than any latents would do: the null distribution of matched random sets, and how well they match."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.style import INK, MUTED, SERIES_COLOURS, Style, finish, language_colour, language_name, legend_below, new_figure, styled
from saebias.plots.tables import Row, Table, distinct, gap, missing_note, number, require_numbers, rows_of, sentences

NULL = ("target", "layer", "language", "metric", "label", "set_no", "value", "arm", "arm_value", "p")
BALANCE = ("target", "language", "covariate", "standardized_difference")
TARGET_MARKERS = {"visible": "o", "stereotype": "D"}


def null_rows(table: Table, metric: str = "stereotype_spread") -> list[Row]:
    """The rows of the view `random_null_sets` that its figure draws: one metric."""
    return rows_of([row for row in rows_of(table, "random_null", NULL) if row["metric"] == metric], "random_null")


@styled
def draw_random_null(table: Table, metric: str = "stereotype_spread") -> Figure:
    """Histogram of one metric over the matched random sets, with the intervention's own value as a line and its permutation p.

    `table`: rows of the view `random_null_sets`.
    """
    name = "random_null"
    rows = null_rows(table, metric)
    require_numbers(rows, "value", name)
    nulls = sorted({_null_of(row) for row in rows}, key=lambda each: (each[1], each[0].split("/")[0] != "visible", each[0], _place(each[2])))
    columns = min(2, len(nulls))
    lines = -(-len(nulls) // columns)
    figure = new_figure(4.3 * columns + 0.3, 2.0 * lines + 1.1, "More than random latents would do?")
    panels = list(figure.subplots(lines, columns, squeeze=False, sharex=True).flat)
    for axes, each in zip(panels, nulls, strict=False):
        _draw_null(axes, [row for row in rows if _null_of(row) == each], each)
    for axes in panels[len(nulls) :]:
        axes.remove()
    for axes in panels[max(0, len(nulls) - columns) : len(nulls)]:
        axes.set_xlabel(str(rows[0]["label"] or metric.replace("_", " ")))
        axes.tick_params(labelbottom=True)
    note = "Bars: matched random latent sets, at the strength of the intervention, report split. Line: the intervention."
    return finish(figure, sentences(note, missing_note(rows, "value", ("target", "language", "set_no"))))


def _null_of(row: Row) -> tuple[str, int, str]:
    return str(row["target"]), int(row["layer"]), str(row["language"])


def _place(language: str) -> int:
    return LANGUAGES.index(language) if language in LANGUAGES else len(LANGUAGES)


def _draw_null(axes: Axes, rows: list[Row], null: tuple[str, int, str]) -> None:
    """One histogram with the line of its intervention."""
    target, layer, language = null
    values = [value for row in rows if (value := number(row, "value")) is not None]
    axes.hist(values, bins=min(24, max(6, len(values) // 6)), color=language_colour(language), alpha=0.55)
    axes.set_title(f"{language_name(language)}, {target}, layer {layer} (n = {len(values)} sets)", fontsize=8.5)
    axes.set_ylabel("random sets")
    arm = number(rows[0], "arm_value")
    if arm is None:
        axes.text(0.03, 0.9, "the arm has no value here", transform=axes.transAxes, fontsize=8, color=MUTED, style="italic", va="top")
        return
    axes.axvline(arm, color=INK, linewidth=1.8)
    p = number(rows[0], "p")
    said = f"{rows[0]['arm']}" + ("" if p is None else f", p = {p:.3g}")
    axes.annotate(said, (arm, 1), xycoords=("data", "axes fraction"), xytext=(4, -3), textcoords="offset points", va="top", fontsize=8)


@styled
def draw_matching_balance(table: Table) -> Figure:
    """Absolute standardised difference of each covariate between the chosen and the matched random latents; under .1 is alike.

    `table`: rows of the view `matching`.
    """
    name = "matching_balance"
    rows = rows_of(table, name, BALANCE)
    require_numbers(rows, "standardized_difference", name)
    covariates = distinct(rows, "covariate")[::-1]
    series = sorted({(str(row["target"]), str(row["language"])) for row in rows}, key=lambda each: (each[0].split("/")[0] != "visible", _place(each[1]), each))
    figure = new_figure(7.0, 1.8 + 0.36 * len(covariates), "Are the random latents like the chosen ones?")
    axes = figure.add_subplot()
    for place, (target, language) in enumerate(series):
        chosen = [row for row in rows if (row["target"], row["language"]) == (target, language)]
        shift = min(0.12, 0.8 / len(series)) * (place - (len(series) - 1) / 2)
        colour = language_colour(language) if language in LANGUAGES else SERIES_COLOURS[place % len(SERIES_COLOURS)]
        mark: Style = {
            "marker": TARGET_MARKERS.get(target.split("/")[0], "s"),
            "linestyle": "none",
            "label": f"{target}, {language_name(language)}",
            "gid": f"{target}/{language}",
        }
        places = [covariates.index(row["covariate"]) - shift for row in chosen]
        axes.plot([abs(gap(row, "standardized_difference")) for row in chosen], places, color=colour, **mark)
    axes.axvline(0.1, color=MUTED, linestyle="--", linewidth=1.1)
    axes.set(xlabel="|standardised difference|", xlim=(0, None), ylim=(-0.6, len(covariates) - 0.4))
    axes.set_yticks(range(len(covariates)), [str(each).replace("_", " ") for each in covariates])
    legend_below(axes)
    return finish(
        figure, sentences("Dashed: .1, the bound for calling two sets alike.", missing_note(rows, "standardized_difference", ("covariate", "language")))
    )
