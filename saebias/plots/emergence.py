"""Where gender appears layer by layer, and how alike the two languages are there."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.style import (
    ACCENT,
    BAND,
    GENDER_COLOURS,
    GENDERS,
    LANGUAGE_MARKERS,
    MUTED,
    Style,
    finish,
    interval_line,
    language_colour,
    language_name,
    layer_axis,
    named_artists,
    new_figure,
    styled,
)
from saebias.plots.tables import Row, Table, count_note, distinct, gap, missing_note, number, require_numbers, rows_of, sentences

EMERGENCE = ("panel", "layer", "language", "series", "value", "low", "high", "n_images", "n_clusters", "note")
ALIGNMENT = ("layer", "measure", "value", "low", "high", "floor", "ceiling", "n_images", "n_clusters", "note")
INTERVAL = ("layer", "value", "low", "high")
MEASURES = {
    "direction_cosine": "Cosine of gender directions",
    "direction_cosine_raw": "Cosine of directions, raw",
    "debiased_cka": "Debiased CKA",
    "procrustes": "Procrustes similarity",
    "probe_transfer_en_ar": "Probe: English to Arabic",
    "probe_transfer_ar_en": "Probe: Arabic to English",
    "latent_rank_correlation": "Rank correlation of latents",
    "latent_top_overlap": "Overlap of top latents",
}


@styled
def draw_layer_emergence(table: Table) -> Figure:
    """Probe accuracy with its control task by layer, and the lens gap by layer for each language.

    `table`: rows of the view `layer_emergence`. A part without rows is said to be missing, not drawn empty.
    """
    name = "layer_emergence"
    rows = rows_of(table, name, EMERGENCE)
    require_numbers(rows, "value", name)
    probe = [row for row in rows if row["panel"] == "probe"]
    lens = [row for row in rows if row["panel"] == "lens"]
    languages = distinct(lens, "language", LANGUAGES)
    n_panels = bool(probe) + len(languages)
    figure = new_figure(max(4.6, 3.4 * n_panels), 4.0, "Where in the model gender appears")
    panels = list(figure.subplots(1, n_panels, squeeze=False)[0])
    if probe:
        _draw_probe(panels[0], probe)
    for axes, language in zip(panels[bool(probe) :], languages, strict=True):
        _draw_lens(axes, [row for row in lens if row["language"] == language], language)
    ends = [end for axes in panels[bool(probe) :] for end in axes.get_ylim()]
    for place, axes in enumerate(panels[bool(probe) :]):
        axes.set_ylim(min(ends), max(ends))
        axes.set_ylabel("log P(F) - log P(M), nats" if place == 0 else "")
    for axes in panels:
        layer_axis(axes, sorted({int(row["layer"]) for row in rows}))
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3 if len(axes.lines) <= 4 else 2, handlelength=1.5, columnspacing=0.9, handletextpad=0.4
        )
    absent = sentences("" if probe else "The probes were not run.", "" if lens else "The lens was not run.")
    note = "Bands: 95 % image-cluster intervals. Control: the same probe on random labels."
    return finish(figure, sentences(note, count_note(rows), absent, missing_note(rows, "value", ("series", "language", "layer"))))


def _draw_probe(axes: Axes, rows: list[Row]) -> None:
    """Balanced accuracy (line, band) and control accuracy (dashed) per language."""
    for language in distinct(rows, "language", LANGUAGES):
        chosen = [row for row in rows if row["language"] == language]
        colour, label = language_colour(language), language_name(language)
        probe = [row for row in chosen if row["series"] == "probe"]
        interval_line(axes, probe, colour, INTERVAL, marker=LANGUAGE_MARKERS.get(language, "D"), label=label, gid=f"probe/{language}")
        control = sorted((row for row in chosen if row["series"] == "control"), key=lambda row: row["layer"])
        style: Style = {"linestyle": (0, (2, 1.5)), "linewidth": 1.2, "alpha": 0.8, "label": f"{label}: control", "gid": f"control/{language}"}
        axes.plot([row["layer"] for row in control], [gap(row, "value") for row in control], color=colour, **style)
    axes.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=":")
    axes.set(title="Linear probe, decision token", ylabel="balanced accuracy", ylim=(min(0.4, *_values(rows)) - 0.02, 1.03))


def _draw_lens(axes: Axes, rows: list[Row], language: str) -> None:
    """The lens gap of one language, one line per kind of image."""
    for shown, marker in zip(distinct(rows, "series", GENDERS), "os^DvP", strict=False):
        chosen = [row for row in rows if row["series"] == shown]
        interval_line(axes, chosen, GENDER_COLOURS.get(shown, ACCENT), INTERVAL, marker=marker, label=shown, gid=f"lens/{language}/{shown}")
    axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=":")
    axes.set_title(f"Logit lens, {language_name(language)}")


@styled
def draw_cross_lingual(table: Table) -> Figure:
    """Each measure of English-Arabic alignment by layer, between its floor (chance) and its ceiling (within one language).

    `table`: rows of the view `cross_lingual`.
    """
    name = "cross_lingual"
    rows = rows_of(table, name, ALIGNMENT)
    require_numbers(rows, "value", name)
    measures = distinct(rows, "measure", tuple(MEASURES))
    columns = min(3, len(measures))
    lines = -(-len(measures) // columns)
    figure = new_figure(3.1 * columns + 0.3, 2.6 * lines + 1.0, "How alike English and Arabic are inside")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, measure in zip(panels, measures, strict=False):
        chosen = sorted((row for row in rows if row["measure"] == measure), key=lambda row: row["layer"])
        layers = [row["layer"] for row in chosen]
        edges = {"floor": (MUTED, ":"), "ceiling": (MUTED, "--")}
        for column, (colour, dash) in edges.items():
            axes.plot(layers, [gap(row, column) for row in chosen], color=colour, linestyle=dash, linewidth=1.2, label=column, gid=f"{measure}/{column}")
        axes.fill_between(layers, [gap(row, "floor") for row in chosen], [gap(row, "ceiling") for row in chosen], color=BAND, alpha=0.25, linewidth=0)
        interval_line(axes, chosen, ACCENT, INTERVAL, marker="o", label="between languages", gid=f"{measure}/value")
        axes.set_title(MEASURES.get(measure, measure.replace("_", " ")))
        layer_axis(axes, layers)
    for axes in panels[len(measures) :]:
        axes.remove()
    legend = named_artists(panels[:1])
    note = "Grey: from the floor (chance) to the ceiling (within one language). Bands: 95 % image-cluster intervals."
    return finish(figure, sentences(note, count_note(rows), missing_note(rows, "value", ("measure", "layer"))), legend)


def _values(rows: list[Row]) -> list[float]:
    """The numbers that are there."""
    return [value for row in rows if (value := number(row, "value")) is not None]
