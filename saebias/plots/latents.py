"""Which latents carry gender: the strongest of each layer as a heat map per language and target."""

from __future__ import annotations

import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from saebias.identifiers import LANGUAGES
from saebias.plots.style import GENDER_MAP, MUTED, finish, language_name, new_figure, styled
from saebias.plots.tables import Row, Table, distinct, missing_note, number, require_numbers, rows_of, sentences

COLUMNS = ("layer", "language", "target", "method", "rank", "latent", "effect")
TARGETS = {"visible": "visible gender", "stereotype": "stereotype"}


def heatmap_rows(table: Table, top: int = 8) -> list[Row]:
    """The rows of the view `latent_ranking` that the figure draws: the `top` ranks, for each target by one method, the first of its rows."""
    rows = rows_of(table, "feature_heatmap", COLUMNS)
    method: dict[str, str] = {}
    for row in rows:
        method.setdefault(row["target"], row["method"])
    return [row for row in rows if row["rank"] <= top and row["method"] == method[row["target"]]]


@styled
def draw_feature_heatmap(table: Table, top: int = 8) -> Figure:
    """The `top` latents of each layer, ranked on the select split and coloured by their effect on the report split; the number is the latent.

    `table`: rows of the view `latent_ranking` (effect: 0 is nothing; for AUROC, positive follows women). Each target has its own method and scale.
    """
    name = "feature_heatmap"
    rows = heatmap_rows(table, top)
    require_numbers(rows, "effect", name)
    targets, languages = distinct(rows, "target", tuple(TARGETS)), distinct(rows, "language", LANGUAGES)
    layers = sorted({int(row["layer"]) for row in rows})
    width = max(4.0, 0.52 * len(layers) + 0.6) * len(languages) + 0.9
    figure = new_figure(width, (0.27 * top + 0.75) * len(targets) + 1.1, "The latents that carry gender, layer by layer")
    panels = figure.subplots(len(targets), len(languages), squeeze=False, sharex=True, sharey=True)
    for line, target in enumerate(targets):
        chosen = [row for row in rows if row["target"] == target]
        limit = max((abs(value) for row in chosen if (value := number(row, "effect")) is not None), default=1.0)
        for column, language in enumerate(languages):
            picture = _draw_panel(panels[line, column], [row for row in chosen if row["language"] == language], layers, top, limit)
            panels[line, column].set_title(f"{language_name(language)}: {TARGETS.get(target, target)}")
        figure.colorbar(picture, ax=panels[line], shrink=0.85, pad=0.015, label=_scale_name(str(chosen[0]["method"])))
        panels[line, 0].set_ylabel("rank within layer")
    for axes in panels[-1]:
        axes.set_xticks(range(len(layers)), [str(layer) for layer in layers])
        axes.set_xlabel("decoder layer")
    note = "Ranked on the select split, coloured by the value on the report split. Number: latent in the dictionary of its layer."
    return finish(figure, sentences(note, missing_note(rows, "effect", ("target", "language", "layer", "latent"))))


def _scale_name(method: str) -> str:
    """What the colours of a method mean, in two lines."""
    if method.startswith("auroc"):
        return "AUROC - 1/2\n\u2190 man      woman \u2192"
    return "\n".join(textwrap.wrap(method.replace("_", " "), 20))


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
