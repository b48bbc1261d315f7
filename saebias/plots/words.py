"""What layers and image tokens say, in words. Arabic is shaped and ordered by the drawing library itself."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from saebias.corpus.images import UNREADABLE
from saebias.identifiers import LANGUAGES
from saebias.plots.style import ACCENT, GENDERS, INK, MUTED, drawable, finish, language_name, new_figure, styled
from saebias.plots.tables import Row, Table, distinct, gap, require_numbers, rows_of, sentences

LENS_WORDS = ("layer", "language", "image_shows", "place", "token", "mean_probability")
IMAGE_WORDS = ("layer", "sample_id", "profession", "image_shows", "image_path", "position", "token", "share")
LONGEST_WORD = 14


def word_rows(table: Table) -> list[Row]:
    """The rows that the lens figure draws: the first two tokens of every cell."""
    return [row for row in rows_of(table, "lens_words", LENS_WORDS) if row["place"] <= 2]


@styled
def draw_lens_words(table: Table) -> Figure:
    """The likeliest next token of every layer (and below it the second), a column per kind of image and a panel per language; darker is likelier.

    `table`: rows of the view `lens_words`.
    """
    rows = word_rows(table)
    require_numbers(rows, "mean_probability", "lens_words")
    languages, layers = distinct(rows, "language", LANGUAGES), sorted({row["layer"] for row in rows})
    figure = new_figure(4.3 * len(languages) + 0.6, 0.42 * len(layers) + 1.5, "What each layer would say at the deciding token")
    panels = list(figure.subplots(1, len(languages), squeeze=False, sharey=True)[0])
    for axes, language in zip(panels, languages, strict=True):
        _draw_cells(axes, [row for row in rows if row["language"] == language], layers)
        axes.set_title(language_name(language))
    panels[0].set_ylabel("decoder layer")
    note = "Logit lens: likeliest token on average over images with its probability, in smaller print the second. Arabic ة is the feminine ending."
    return finish(figure, note)


def _draw_cells(axes: Axes, rows: list[Row], layers: list[int]) -> None:
    shown = distinct(rows, "image_shows", GENDERS)
    palette = matplotlib.colormaps["Purples"]
    by_cell = {(row["layer"], row["image_shows"], row["place"]): row for row in rows}
    for line, layer in enumerate(layers):
        for column, kind in enumerate(shown):
            first, second = by_cell.get((layer, kind, 1)), by_cell.get((layer, kind, 2))
            if first is None:
                continue
            p = gap(first, "mean_probability")
            ink = "white" if p > 0.6 else INK
            axes.fill_between([column - 0.48, column + 0.48], line - 0.46, line + 0.46, color=palette(0.08 + 0.8 * p), linewidth=0)
            axes.text(column, line - 0.1, f"{_short(first['token'])} {p:.2f}", ha="center", va="center", fontsize=7.5, color=ink, gid=f"word/{layer}/{kind}")
            if second is not None:
                smaller = f"{_short(second['token'])} {gap(second, 'mean_probability'):.2f}"
                axes.text(column, line + 0.27, smaller, ha="center", va="center", fontsize=5.5, color=ink)
    axes.set_xticks(range(len(shown)), [f"image: {kind}" for kind in shown])
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set(xlim=(-0.52, len(shown) - 0.48), ylim=(len(layers) - 0.5, -0.5))
    axes.grid(visible=False)
    axes.tick_params(length=0)


def shown_image_rows(table: Table) -> list[Row]:
    """The rows that the figure of image tokens draws: one picture of each kind, at the first, a middle and the last layer."""
    rows = rows_of(table, "image_words", IMAGE_WORDS)
    layers = sorted({row["layer"] for row in rows})
    kept = {layers[0], layers[(len(layers) - 1) // 2], layers[-1]}
    samples = {min(row["sample_id"] for row in rows if row["image_shows"] == kind) for kind in distinct(rows, "image_shows", GENDERS)}
    return [row for row in rows if row["layer"] in kept and row["sample_id"] in samples]


@styled
def draw_image_words(table: Table) -> Figure:
    """The word that each image token stands near, laid over its picture: a row per picture, a column per layer.

    `table`: rows of the view `image_words`. A picture that is no longer there is left blank.
    """
    rows = shown_image_rows(table)
    require_numbers(rows, "share", "image_words")
    layers = sorted({row["layer"] for row in rows})
    samples = list(dict.fromkeys(row["sample_id"] for row in sorted(rows, key=lambda row: GENDERS.index(row["image_shows"]))))
    figure = new_figure(3.3 * len(layers) + 0.2, 3.35 * len(samples) + 0.8, "What the picture's tokens stand near")
    grid = figure.subplots(len(samples), len(layers), squeeze=False)
    for line, sample in enumerate(samples):
        for column, layer in enumerate(layers):
            chosen = sorted((row for row in rows if row["sample_id"] == sample and row["layer"] == layer), key=lambda row: row["position"])
            _draw_picture(grid[line][column], chosen)
            first = chosen[0]
            grid[line][column].set_title(f"{first['profession'] or 'image'} ({first['image_shows']}), layer {layer}", fontsize=8)
    note = "Each square is an image token; the word is the commonest among its ten nearest caption activations of the same layer, with its share of them."
    return finish(figure, sentences(note, "A logit lens is unreliable on image tokens."))


def _draw_picture(axes: Axes, rows: list[Row]) -> None:
    side = math.ceil(math.sqrt(len(rows)))
    height = math.ceil(len(rows) / side)
    try:
        with Image.open(Path(rows[0]["image_path"])) as picture:
            axes.imshow(picture.convert("RGB"), extent=(0, side, height, 0), alpha=0.35)
    except UNREADABLE:
        axes.set_facecolor("#f4f5f7")
    for row in rows:
        y, x = divmod(row["position"], side)
        axes.text(x + 0.5, y + 0.45, _short(row["token"]), ha="center", va="center", fontsize=7, color=INK, fontweight="bold", gid=f"token/{row['position']}")
        axes.text(x + 0.5, y + 0.75, f"{gap(row, 'share'):.1f}", ha="center", va="center", fontsize=5.5, color=ACCENT)
    axes.set(xlim=(0, side), ylim=(height, 0), aspect="equal")
    axes.set_xticks(range(side + 1), [])
    axes.set_yticks(range(height + 1), [])
    axes.grid(visible=True, color=MUTED, linewidth=0.5, alpha=0.5)
    axes.tick_params(length=0)


def _short(token: str) -> str:
    # Dollar signs would start a formula.
    return drawable(token if len(token) <= LONGEST_WORD else token[: LONGEST_WORD - 1] + "\u2026").replace("$", r"\$")
