"""How many directions dictionaries, attention heads and activations use."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.plots.style import LANGUAGE_MARKERS, SERIES_COLOURS, Style, finish, language_colour, language_name, layer_axis, new_figure, styled
from saebias.plots.tables import Row, Table, distinct, gap, missing_note, number, require_numbers, rows_of, sentences

SPECTRA = ("matrix", "layer", "head", "language", "rank", "stable_rank", "effective_rank", "participation_ratio", "note")
MATRICES = ("dictionary to words", "attention head", "activations")
TITLES = {
    "dictionary to words": "Dictionary to words (W_dec W_U)",
    "attention head": "Attention heads (value to output)",
    "activations": "Activations at the deciding token",
}
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
MEASURES = {
    "effective_rank": ("effective rank", SERIES_COLOURS[0], "o"),
    "participation_ratio": ("participation ratio", SERIES_COLOURS[1], "s"),
    "stable_rank": ("stable rank", SERIES_COLOURS[2], "^"),
}


@styled
def draw_spectra(table: Table) -> Figure:
    """Effective rank, participation ratio and stable rank by layer, a panel per kind of matrix; heads are marks, their mean a line.

    `table`: rows of the view `matrix_spectra`.
    """
    rows = rows_of(table, "matrix_spectra", SPECTRA)
    require_numbers(rows, "effective_rank", "matrix_spectra")
    matrices = distinct(rows, "matrix", MATRICES)
    figure = new_figure(3.7 * len(matrices) + 0.3, 4.2, "How many directions the model's matrices use")
    panels = list(figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0])
    for axes, matrix in zip(panels, matrices, strict=True):
        chosen = [row for row in rows if row["matrix"] == matrix]
        if matrix == "activations":
            _draw_by_language(axes, chosen)
        else:
            _draw_measures(axes, chosen)
        axes.set_yscale("log")
        axes.set_yticks(TICKS, [str(tick) for tick in TICKS])
        axes.minorticks_off()
        axes.set_title(TITLES.get(matrix, matrix))
        layer_axis(axes, sorted({int(row["layer"]) for row in rows}))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, handlelength=1.5, columnspacing=0.9)
    known = [value for row in rows for column in MEASURES if (value := number(row, column)) is not None]
    panels[0].set_ylim(min(known) * 0.85, max(known) * 1.2)
    panels[0].set_ylabel("directions (log scale)")
    full = ", ".join(f"{matrix} {max(row['rank'] or 0 for row in rows if row['matrix'] == matrix)}" for matrix in matrices)
    note = "Effective rank: exp of the entropy of the singular values' shares. Participation ratio and stable rank weigh by squares: the few strong ones."
    return finish(figure, sentences(note, f"Largest numerical ranks: {full}.", missing_note(rows, "effective_rank", ("matrix", "layer", "head"))))


def _draw_measures(axes: Axes, rows: list[Row]) -> None:
    layers = sorted({row["layer"] for row in rows})
    for column, (label, colour, marker) in MEASURES.items():
        means = [_mean([gap(row, column) for row in rows if row["layer"] == layer]) for layer in layers]
        axes.plot(layers, means, color=colour, marker=None if any(row["head"] is not None for row in rows) else marker, label=label, gid=column)
        if any(row["head"] is not None for row in rows):
            style: Style = {"linestyle": "none", "marker": marker, "markersize": 3, "alpha": 0.6}
            axes.plot([row["layer"] for row in rows], [gap(row, column) for row in rows], color=colour, gid=f"{column}/heads", **style)


def _draw_by_language(axes: Axes, rows: list[Row]) -> None:
    for language in distinct(rows, "language"):
        chosen = sorted((row for row in rows if row["language"] == language), key=lambda row: row["layer"])
        layers = [row["layer"] for row in chosen]
        for column, dash in (("effective_rank", "-"), ("participation_ratio", "--")):
            style: Style = {"linestyle": dash, "marker": LANGUAGE_MARKERS.get(language, "D"), "label": f"{language_name(language)}: {MEASURES[column][0]}"}
            axes.plot(layers, [gap(row, column) for row in chosen], color=language_colour(language), gid=f"{column}/{language}", **style)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
