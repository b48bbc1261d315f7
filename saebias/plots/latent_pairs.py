"""Latents in company: what they follow among words, which pairs work together, and whether two ablations add up."""

from __future__ import annotations

import math

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.style import (
    BAND,
    GENDER_COLOURS,
    GENDER_MAP,
    INK,
    LANGUAGE_COLOURS,
    LANGUAGE_MARKERS,
    MUTED,
    SERIES_COLOURS,
    finish,
    interval_points,
    language_name,
    layer_axis,
    named_artists,
    new_figure,
    styled,
)
from saebias.plots.tables import Row, Table, count_note, distinct, gap, number, require_numbers, rows_of, sentences

WORDS = ("layer", "language", "evidence", "n_selected", "strongest", "n_words", "n_units", "note")
EVIDENCE = {"form of words": ("^", SERIES_COLOURS[1]), "meaning of words": ("o", SERIES_COLOURS[0]), "meaning of shared nouns": ("s", SERIES_COLOURS[2])}
GRAPH = ("layer", "language", "latent_a", "women_a", "men_a", "latent_b", "women_b", "men_b", "pmi", "z", "p", "q", "n_clusters_women", "n_clusters_men")
CAUSAL = ("layer", "language", "latent_a", "latent_b", "effect_a", "effect_b", "effect_both", "interaction", "low", "high", "n_images", "n_clusters")
# Two latents that fire together more than twice as often as by chance.
TOGETHER = math.log(2)
ALPHA = 0.05


@styled
def draw_word_latents(table: Table) -> Figure:
    """Latents found to follow the form or the meaning of words, layer by layer, and the strongest association. `table`: the view `form_or_meaning`."""
    rows = rows_of(table, "word_latents", WORDS)
    known = [row for row in rows if number(row, "n_selected") is not None]
    require_numbers(rows, "n_selected", "word_latents")
    layers = sorted({int(row["layer"]) for row in rows})
    figure = new_figure(9.0, 3.9, "Do latents follow how a word looks, or who is meant?")
    found, strongest = figure.subplots(1, 2)
    for language in distinct(known, "language", LANGUAGES):
        for evidence in distinct(known, "evidence", tuple(EVIDENCE)):
            of = sorted((row for row in known if (row["language"], row["evidence"]) == (language, evidence)), key=lambda row: row["layer"])
            if not of:
                continue
            marker, colour = EVIDENCE.get(evidence, ("D", MUTED))
            label = f"{language_name(language)}: {evidence} ({of[0]['n_units']} {'groups' if 'nouns' in evidence else 'words'})"
            style = {"marker": marker, "color": colour, "label": label, "linestyle": "-" if language == "en" else "--"}
            found.plot([row["layer"] for row in of], [gap(row, "n_selected") for row in of], **style)
            strongest.plot([row["layer"] for row in of], [gap(row, "strongest") for row in of], **style)
    found.set_ylabel("latents found (q <= .05)")
    strongest.set_ylabel("largest association")
    strongest.set_ylim(0, 1.05)
    for axes in (found, strongest):
        layer_axis(axes, layers)
    lost = [row for row in rows if number(row, "n_selected") is None]
    names = list(dict.fromkeys(f"{language_name(row['language'])} {row['evidence']}" for row in lost))
    note = (
        "Form with the meaning held fixed, meaning with the form held fixed; where the captions hold few such words, even a strong association is not evidence."
    )
    return finish(figure, sentences(note, f"Not testable here: {', '.join(names)}." if names else ""), named_artists([found]), columns=2)


def graph_rows(table: Table) -> list[Row]:
    """The rows that the graph draws: one layer, the one with most pairs that differ between women's and men's pictures."""
    rows = rows_of(table, "latent_graph", GRAPH)
    differing = [int(row["layer"]) for row in rows if (q := number(row, "q")) is not None and q <= ALPHA]
    layers = sorted({int(row["layer"]) for row in rows})
    shown = max(layers, key=lambda layer: (differing.count(layer), layer))
    return [row for row in rows if row["layer"] == shown]


@styled
def draw_latent_graph(table: Table) -> Figure:
    """The chosen latents of one layer as a graph: nodes by whom they fire for, edges where a pair differs between genders or fires together."""
    rows = graph_rows(table)
    languages = distinct(rows, "language", LANGUAGES)
    figure = new_figure(4.5 * len(languages) + 0.7, 5.2, f"Which latents work together (layer {rows[0]['layer']})")
    panels = list(figure.subplots(1, len(languages), squeeze=False)[0])
    for axes, language in zip(panels, languages, strict=True):
        _draw_graph(axes, [row for row in rows if row["language"] == language])
        axes.set_title(language_name(language))
    scale = ScalarMappable(Normalize(-1, 1), colormaps[GENDER_MAP])
    figure.colorbar(scale, ax=panels, shrink=0.6, pad=0.02, label="fires for\n\u2190 men      women \u2192")
    women, men = ([int(row[column]) for row in rows] for column in ("n_clusters_women", "n_clusters_men"))
    note = (
        f"Numbers: latents. Pairs on report images, {max(women)} picture groups of women and {max(men)} of men; latents that fire for few groups of one gender "
        "are not tested for a difference."
    )
    return finish(figure, note, named_artists(panels), columns=3)


def _draw_graph(axes: Axes, rows: list[Row]) -> None:
    """Nodes on a circle, in order of whom they fire for, so that edges across it join latents of women and of men."""
    lean: dict[int, float] = {}
    for row in rows:
        for end in ("a", "b"):
            lean[int(row[f"latent_{end}"])] = float(row[f"women_{end}"]) - float(row[f"men_{end}"])
    order = sorted(lean, key=lambda latent: (lean[latent], latent))
    angle = {latent: 2 * math.pi * place / len(order) + math.pi / 2 for place, latent in enumerate(order)}
    at = {latent: (math.cos(turn), math.sin(turn)) for latent, turn in angle.items()}
    for row in rows:
        (xa, ya), (xb, yb) = at[int(row["latent_a"])], at[int(row["latent_b"])]
        q, z, pmi = number(row, "q"), number(row, "z"), number(row, "pmi")
        if q is not None and z is not None and q <= ALPHA:
            name, colour = ("women", GENDER_COLOURS["woman"]) if z > 0 else ("men", GENDER_COLOURS["man"])
            label = f"correlate more on pictures of {name} (q <= .05)"
            axes.plot([xa, xb], [ya, yb], color=colour, linewidth=min(4.0, 0.8 + abs(z) / 2), label=label, zorder=2)
        elif pmi is not None and pmi >= TOGETHER:
            axes.plot([xa, xb], [ya, yb], color=BAND, linewidth=0.8, linestyle="--", label="fire together, twice chance or more", zorder=1)
    colours = [colormaps[GENDER_MAP]((lean[latent] + 1) / 2) for latent in order]
    axes.scatter([at[latent][0] for latent in order], [at[latent][1] for latent in order], s=90, c=colours, edgecolors=INK, linewidths=0.6, zorder=3)
    for latent in order:
        axes.text(1.17 * at[latent][0], 1.13 * at[latent][1], str(latent), ha="center", va="center", fontsize=6.5)
    axes.set(xlim=(-1.35, 1.35), ylim=(-1.3, 1.3), aspect="equal")
    axes.axis("off")


@styled
def draw_causal_pairs(table: Table) -> Figure:
    """Pairs of latents ablated one by one and together: the joint effect on the gender gap, and its departure from the sum.

    `table`: rows of the view `causal_interaction`.
    """
    rows = rows_of(table, "causal_pairs", CAUSAL)
    require_numbers(rows, "interaction", "causal_pairs")
    languages = distinct(rows, "language", LANGUAGES)
    ordered = [row for language in languages for row in rows if row["language"] == language]
    figure = new_figure(9.0, 0.24 * len(ordered) + 1.9, "Do two ablations add up?")
    effects, departure = figure.subplots(1, 2, sharey=True)
    for language in languages:
        points = [(float(place), row) for place, row in enumerate(ordered) if row["language"] == language]
        colour, marker = LANGUAGE_COLOURS.get(language, MUTED), LANGUAGE_MARKERS.get(language, "D")
        places = [place for place, _ in points]
        sums = [gap(row, "effect_a") + gap(row, "effect_b") for _, row in points]
        effects.plot(
            [gap(row, "effect_both") for _, row in points], places, linestyle="none", marker=marker, color=colour, label=f"{language_name(language)}, both"
        )
        effects.plot(sums, places, linestyle="none", marker="|", markersize=9, color=INK, label="sum of the two alone")
        interval_points(departure, points, ("interaction", "low", "high"), colour, upright=False, marker=marker, label=f"{language_name(language)}, both")
    effects.set_yticks(range(len(ordered)), [f"{row['latent_a']} + {row['latent_b']}" for row in ordered])
    effects.set_ylim(len(ordered) - 0.5, -0.5)
    effects.set_xlabel("change of log P(F) - log P(M), nats")
    departure.set_xlabel("joint effect minus the sum, nats")
    for axes in (effects, departure):
        axes.axvline(0, color=MUTED, linewidth=0.8)
    layers = ", ".join(f"{language_name(language)} at layer {next(row['layer'] for row in rows if row['language'] == language)}" for language in languages)
    note = f"Latents at the deciding position moved to their mean: {layers}. Whiskers: 95 % image-cluster intervals."
    return finish(figure, sentences(note, count_note(rows)), named_artists([effects]), columns=3)
