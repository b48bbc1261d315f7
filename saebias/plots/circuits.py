"""Which parts of the model write the gender, and along which way it comes from the picture."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.style import INK, MUTED, SERIES_COLOURS, finish, interval_line, language_name, layer_axis, named_artists, new_figure, styled
from saebias.plots.tables import Row, Table, count_note, distinct, gap, require_numbers, rows_of, sentences

ATTRIBUTION = ("layer", "component", "language", "image_shows", "contribution", "low", "high", "total", "n_images", "n_clusters")
PATCHING = ("part", "layer", "component", "token_kind", "direction", "language", "effect", "low", "high", "total", "n_images", "n_clusters")
COMPONENT_COLOURS = {"embeddings": MUTED, "attention": SERIES_COLOURS[0], "mlp": SERIES_COLOURS[1]}
KIND_COLOURS = {"image": SERIES_COLOURS[2], "prompt": SERIES_COLOURS[1], "decision": SERIES_COLOURS[0]}
KIND_MARKERS = {"image": "s", "prompt": "^", "decision": "o"}
KIND_NAMES = {"image": "image tokens", "prompt": "prompt tokens", "decision": "deciding token"}
COMPONENTS = ("residual stream", "attention", "mlp")
CONTRAST = "woman minus man"
DIRECTION_STYLES = {"woman into man": "-", "man into woman": "--"}


def _name(component: str) -> str:
    return "MLP" if component == "mlp" else component


def contrast_rows(table: Table) -> list[Row]:
    """The rows that the figure of attributions draws: women's pictures minus men's."""
    return [row for row in rows_of(table, "logit_attribution", ATTRIBUTION) if row["image_shows"] == CONTRAST]


@styled
def draw_attribution(table: Table) -> Figure:
    """What each component adds to the logit difference of women's against men's pictures, and how it piles up to the model's own.

    `table`: rows of the view `component_attribution`; only `woman minus man` is drawn.
    """
    rows = rows_of(contrast_rows(table), "logit_attribution")
    require_numbers(rows, "contribution", "logit_attribution")
    languages = distinct(rows, "language", LANGUAGES)
    figure = new_figure(4.4 * len(languages) + 0.4, 4.0, "Which components write the gender")
    panels = list(figure.subplots(1, len(languages), squeeze=False, sharey=True)[0])
    for place, (axes, language) in enumerate(zip(panels, languages, strict=True)):
        _draw_waterfall(axes, [row for row in rows if row["language"] == language], language)
        axes.set_ylabel("logit(F) - logit(M), women minus men" if place == 0 else "")
    note = "Bars: direct contribution at the deciding token, whiskers 95 % image-cluster intervals. Line: running sum, ends at the model's own difference."
    return finish(figure, sentences(note, count_note(rows)), named_artists(panels[:1]), columns=4)


def _draw_waterfall(axes: Axes, rows: list[Row], language: str) -> None:
    """Bars of attention and MLP side by side per layer, the embeddings before them, and the running sum."""
    order = ("embeddings", "attention", "mlp")
    ordered = sorted(rows, key=lambda row: (-1 if row["layer"] is None else row["layer"], order.index(row["component"])))
    places, running, total = [], [], 0.0
    for row in ordered:
        layer = -1 if row["layer"] is None else row["layer"]
        place = layer + {"embeddings": 0.0, "attention": -0.2, "mlp": 0.2}[row["component"]]
        axes.bar(place, gap(row, "contribution"), 0.38, color=COMPONENT_COLOURS[row["component"]], label=_name(row["component"]), gid=f"{language}/{layer}")
        axes.plot([place, place], [gap(row, "low"), gap(row, "high")], color=INK, linewidth=1.0)
        total += gap(row, "contribution")
        places.append(place)
        running.append(total)
    axes.plot(places, running, color=INK, marker=".", linewidth=1.1, label="running sum", gid=f"running/{language}")
    axes.axhline(0, color=MUTED, linewidth=0.9)
    layers = sorted({row["layer"] for row in rows if row["layer"] is not None})
    layer_axis(axes, layers)
    axes.set_xticks([-1, *axes.get_xticks()], ["emb.", *(f"{int(tick)}" for tick in axes.get_xticks())])
    axes.set_title(language_name(language))


@styled
def draw_patching(table: Table) -> Figure:
    """Effect of patching each component, by layer and kind of token, a column of panels per language and a row per component.

    `table`: rows of the view `patching_effects`. The vision tower has a row of panels of its own, where it was patched.
    """
    rows = rows_of(table, "patching", PATCHING)
    require_numbers(rows, "effect", "patching")
    languages = distinct(rows, "language", LANGUAGES)
    lines = [("decoder", component) for component in COMPONENTS if any(r["part"] == "decoder" and r["component"] == component for r in rows)]
    lines += [("vision tower", "")] if any(row["part"] == "vision tower" for row in rows) else []
    figure = new_figure(3.9 * len(languages) + 0.3, 1.9 * len(lines) + 1.2, "Where gender enters, and by which tokens it travels")
    grid = figure.subplots(len(lines), len(languages), squeeze=False, sharey=True)
    for line, (part, component) in enumerate(lines):
        for place, language in enumerate(languages):
            chosen = [row for row in rows if row["language"] == language and row["part"] == part and component in ("", row["component"])]
            _draw_effects(grid[line][place], chosen, part)
            title = f"Decoder, {_name(component)}" if part == "decoder" else "Vision tower"
            grid[line][place].set_title(f"{title}: {language_name(language)}")
            grid[line][place].set_ylabel("effect, nats" if place == 0 else "")
    note = (
        "Effect on log P(F) - log P(M) of putting one twin's activations into the run on the other's picture of the same scene: the woman's into the man's, "
        "dashed the man's into the woman's, toward the other twin both. Grey dashes: everything patched. Bands: 95 % image-cluster intervals."
    )
    legend = named_artists([grid[0][0], grid[-1][0]])
    return finish(figure, sentences(note, count_note(rows, {"n_images": "scene pairs", "n_clusters": "clusters"})), legend, columns=6)


def _draw_effects(axes: Axes, rows: list[Row], part: str) -> None:
    """One line per kind of token (decoder) or component (tower) and direction, and the total; the legend names the first direction's."""
    is_decoder = part == "decoder"
    column, known = ("token_kind", tuple(KIND_COLOURS)) if is_decoder else ("component", COMPONENTS)
    for series, marker in zip(distinct(rows, column, known), "osD^v" if is_decoder else "PX", strict=False):
        colour = (KIND_COLOURS if is_decoder else COMPONENT_COLOURS).get(series, INK)
        name = KIND_NAMES.get(series, series) if is_decoder else f"tower {_name(series)}"
        for way, style in DIRECTION_STYLES.items():
            chosen = [row for row in rows if row[column] == series and row["direction"] == way]
            first = style == "-"
            mark = {"marker": KIND_MARKERS.get(series, marker), "markerfacecolor": colour if first else "none", "linestyle": style}
            if chosen:
                label = name if first else "_hidden"
                interval_line(axes, chosen, colour, ("layer", "effect", "low", "high"), label=label, gid=f"patch/{series}/{way}", **mark)
    axes.axhline(gap(rows[0], "total"), color=MUTED, linewidth=1.0, linestyle="--")
    axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=":")
    layer_axis(axes, sorted({int(row["layer"]) for row in rows}))
    axes.set_xlabel("tower layer" if part == "vision tower" else "decoder layer")
