"""The gender directions of both languages in three dimensions: a static picture and an interactive one."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from saebias.identifiers import LANGUAGES
from saebias.plots.style import BAND, GENDER_COLOURS, GENDERS, LANGUAGE_MARKERS, MUTED, Style, finish, language_name, named_artists, new_figure, styled
from saebias.plots.tables import Row, Table, distinct, rows_of

COLUMNS = ("layer", "language", "image_shows", "profession", "sample_id", "x", "y", "z")
AXES = ("English gender direction", "Arabic, made orthogonal", "largest variation left")
SYMBOLS = {"en": "circle", "ar": "square"}


def direction_rows(table: Table, layers: tuple[int, ...] = (), per_group: int = 80, seed: int = 0) -> list[Row]:
    """The rows of the view `gender_points` that the still figure draws: some layers, thinned."""
    rows = rows_of(table, "gender_direction", COLUMNS)
    present = sorted({int(row["layer"]) for row in rows})
    chosen = layers or (present[0], present[len(present) // 2], present[-1])
    return rows_of(thinned([row for row in rows if row["layer"] in chosen], per_group, seed), "gender_direction")


@styled
def draw_gender_direction(table: Table, layers: tuple[int, ...] = (), per_group: int = 80, seed: int = 0) -> Figure:
    """Decision-token activations on the two gender directions and the largest variation left, one 3-D panel per layer.

    `table`: rows of the view `gender_points`; `layers`: those to draw (empty: first, middle and last); at most `per_group` points of each
    language and kind of image, drawn at random by `seed`.
    """
    rows = rows_of(table, "gender_direction", COLUMNS)
    shown = direction_rows(rows, layers, per_group, seed)
    chosen = sorted({int(row["layer"]) for row in shown})
    figure = new_figure(3.3 * len(chosen) + 0.4, 4.3, "Gender directions at the decision token")
    for place, layer in enumerate(chosen, start=1):
        axes = figure.add_subplot(1, len(chosen), place, projection="3d")
        for language in distinct(shown, "language", LANGUAGES):
            for kind in distinct(shown, "image_shows", GENDERS):
                points = [row for row in shown if (row["layer"], row["language"], row["image_shows"]) == (layer, language, kind)]
                style: Style = {"marker": LANGUAGE_MARKERS.get(language, "D"), "s": 12, "alpha": 0.75, "linewidths": 0, "depthshade": False}
                label = f"{kind} shown, {language_name(language)}"
                axes.scatter(*([row[axis] for row in points] for axis in "xyz"), color=GENDER_COLOURS.get(kind, MUTED), label=label, gid=label, **style)
        walls: tuple[Any, ...] = (axes.xaxis, axes.yaxis, axes.zaxis)
        for wall in walls:
            wall.set_pane_color((*to_rgb(BAND), 0.16))
        axes.set_title(f"layer {layer}", y=1.0)
        axes.set_xlabel("x", labelpad=-7)
        axes.set_ylabel("y", labelpad=-7)
        axes.set_zlabel("z", labelpad=-7)
        axes.tick_params(labelsize=6, pad=-3)
        axes.view_init(elev=18, azim=-62)
        axes.set_box_aspect(None, zoom=1.0)
    note = f"x: {AXES[0]}; y: {AXES[1]}; z: {AXES[2]}; activation units. {_thinning_note(rows, shown, chosen)}"
    return finish(figure, note, named_artists(figure.axes[:1]), mark_scale=2.2)


def interactive_gender_direction(table: Table, per_group: int = 120, seed: int = 0) -> str:
    """The same points as a plotly figure in JSON, one layer at a time with a menu; needs no network.

    `table`: rows of the view `gender_points`; at most `per_group` points per layer, language and kind of image.
    """
    rows = rows_of(table, "gender_direction", COLUMNS)
    shown = thinned(rows, per_group, seed)
    layers = sorted({int(row["layer"]) for row in shown})
    start = layers[len(layers) // 2]
    traces, layer_of = [], []
    for layer in layers:
        for language in distinct(shown, "language", LANGUAGES):
            for kind in distinct(shown, "image_shows", GENDERS):
                points = [row for row in shown if (row["layer"], row["language"], row["image_shows"]) == (layer, language, kind)]
                if points:
                    traces.append(_trace(points, language, kind, visible=layer == start))
                    layer_of.append(layer)
    buttons = [{"label": f"layer {layer}", "method": "update", "args": [{"visible": [each == layer for each in layer_of]}]} for layer in layers]
    menu = {"buttons": buttons, "active": layers.index(start), "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "showactive": True}
    axes: Style = {f"{axis}axis": {"title": {"text": text}} for axis, text in zip("xyz", AXES, strict=True)}
    figure = go.Figure(traces, {"template": None, "margin": {"l": 0, "r": 0, "t": 46, "b": 0}, "height": 560, "updatemenus": [menu]})
    camera = {"eye": {"x": 0.8, "y": -2.1, "z": 0.7}, "center": {"x": 0, "y": 0, "z": -0.22}}
    legend = {"orientation": "h", "y": -0.02, "itemsizing": "constant"}
    bar = {"bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": "#0072b2"}
    figure.update_layout(scene={**axes, "aspectmode": "cube", "camera": camera}, legend=legend, modebar=bar, paper_bgcolor="rgba(0,0,0,0)")
    return figure.to_json()


def thinned(rows: list[Row], per_group: int, seed: int) -> list[Row]:
    """At most `per_group` rows of each layer, language and kind of image, drawn by `seed`; the same samples in every layer."""
    names = sorted({str(row["sample_id"]) for row in rows})
    place = dict(zip(names, np.random.default_rng(seed).permutation(len(names)), strict=True))
    groups: dict[tuple, list[Row]] = {}
    for row in sorted(rows, key=lambda row: place[str(row["sample_id"])]):
        groups.setdefault((row["layer"], row["language"], row["image_shows"]), []).append(row)
    return [row for key in groups for row in groups[key][:per_group]]


def _trace(points: list[Row], language: str, kind: str, visible: bool) -> go.Scatter3d:
    """One cloud; a mark tells profession and sample when touched."""
    marker = {"size": 3.4, "symbol": SYMBOLS.get(language, "diamond"), "color": GENDER_COLOURS.get(kind, MUTED), "opacity": 0.8}
    text = [f"{row['profession']} ({row['sample_id']})" for row in points]
    axes: Style = {axis: [round(float(row[axis]), 4) for row in points] for axis in "xyz"}
    name = f"{kind} shown, {language_name(language)}"
    return go.Scatter3d(mode="markers", marker=marker, text=text, name=name, visible=visible, hovertemplate="%{text}<extra>" + name + "</extra>", **axes)


def _thinning_note(rows: list[Row], shown: list[Row], layers: list[int]) -> str:
    """How many points were left out of the picture."""
    total = sum(row["layer"] in layers for row in rows)
    return f"{len(shown):,} points." if total == len(shown) else f"{len(shown):,} of {total:,} points, drawn at random."


def plotly_bundle() -> str:
    """The plotly program as text, from the installed package."""
    return get_plotlyjs()
