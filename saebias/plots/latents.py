"""Which latents carry gender: the strongest of each layer as a heat map per language and target."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from saebias.plots.style import GENDER_MAP, LANGUAGES, MUTED, finish, language_name, layer_axis, new_figure, styled
from saebias.plots.tables import Row, Table, distinct, missing_note, number, require_numbers, rows_of, sentences

COLUMNS = ("layer", "language", "target", "method", "rank", "latent", "effect")
TARGETS = {"visible": "visible gender", "stereotype": "stereotype"}


@styled
def draw_feature_heatmap(table: Table, top: int = 8) -> Figure:
    """The `top` latents of each layer, ranked on the select split and coloured by their effect on the report split; the number is the latent.

    `table`: rows of the view `latent_ranking` (effect: 0 is chance, positive follows women). One method is drawn, the first.
    """
    name = "feature_heatmap"
    rows = rows_of(table, name, COLUMNS)
    method = str(rows[0]["method"])
    rows = [row for row in rows if row["rank"] <= top and row["method"] == method]
    require_numbers(rows, "effect", name)
    targets, languages = distinct(rows, "target", tuple(TARGETS)), distinct(rows, "language", LANGUAGES)
    layers = sorted({int(row["layer"]) for row in rows})
    limit = max(abs(value) for row in rows if (value := number(row, "effect")) is not None)
    width = max(4.0, 0.52 * len(layers) + 0.6) * len(languages) + 0.9
    figure = new_figure(width, (0.27 * top + 0.75) * len(targets) + 1.1, "The latents that carry gender, layer by layer")
    panels = figure.subplots(len(targets), len(languages), squeeze=False, sharex=True, sharey=True)
    picture: AxesImage | None = None
    for line, target in enumerate(targets):
        for column, language in enumerate(languages):
            chosen = [row for row in rows if row["target"] == target and row["language"] == language]
            picture = _draw_panel(panels[line, column], chosen, layers, top, limit)
            panels[line, column].set_title(f"{language_name(language)}: {TARGETS.get(target, target)}")
    for axes in panels[-1]:
        layer_axis(axes, range(len(layers)))
        axes.set_xticks(range(len(layers)), [str(layer) for layer in layers])
    for axes in panels[:, 0]:
        axes.set_ylabel("rank within layer")
    assert picture is not None
    unit = "AUROC - 1/2" if method.startswith("auroc") else method.replace("_", " ")
    figure.colorbar(picture, ax=panels, shrink=0.75, pad=0.015, label=f"{unit}, report split\n\u2190 man      woman \u2192")
    note = f"Ranked on the select split by {method}, coloured by the value on the report split. Number: latent in the dictionary of its layer."
    return finish(figure, sentences(note, missing_note(rows, "effect", ("target", "language", "layer", "latent"))))


def _draw_panel(axes: Axes, rows: list[Row], layers: list[int], top: int, limit: float) -> AxesImage:
    """One heat map: a missing value is a hatched cell with a dash, a latent that does not exist stays blank."""
    values = np.full((top, len(layers)), math.nan)
    for row in rows:
        line, column = int(row["rank"]) - 1, layers.index(int(row["layer"]))
        value = number(row, "effect")
        if value is None:
            axes.text(column, line, "–", ha="center", va="center", fontsize=8, color=MUTED)
            continue
        values[line, column] = value
        dark = abs(value) > 0.62 * limit
        axes.text(column, line, str(row["latent"]), ha="center", va="center", fontsize=6.5, color="#fefefe" if dark else "#111111")
    axes.set_yticks(range(top), [str(rank + 1) for rank in range(top)])
    axes.grid(visible=False)
    return axes.imshow(values, cmap=GENDER_MAP, vmin=-limit, vmax=limit, aspect="auto")
