"""Latents by language: how many follow gender in each, which carry it in both, which find their partner, and what may be claimed of it."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.style import (
    ACCENT,
    BAND,
    GENDER_COLOURS,
    INK,
    LANGUAGE_COLOURS,
    MUTED,
    SERIES_COLOURS,
    finish,
    from_zero,
    interval_line,
    language_name,
    layer_axis,
    named_artists,
    new_figure,
    styled,
)
from saebias.plots.tables import Row, Table, count_note, distinct, gap, missing_note, require_numbers, rows_of, sentences

PROFILE = (
    *("layer", "language", "n_live", "n_dead", "n_female", "n_male", "n_neutral", "n_gendered_permuted", "n_images", "n_clusters"),
    *("n_stereotype_female", "n_stereotype_male", "n_stereotype_permuted", "stereotype_note"),
)
VERDICTS = {"shared": "both languages", "en_only": "English only", "ar_only": "Arabic only", "unclear": "unclear"}
VERDICT_COLOURS = {"shared": ACCENT, "en_only": LANGUAGE_COLOURS["en"], "ar_only": LANGUAGE_COLOURS["ar"], "unclear": BAND}
LANGUAGE_LATENT = ("layer", "latent", "verdict", "auroc_en", "auroc_ar", "n_images", "n_clusters")
MATCHING = ("layer", "n_pairs", "n_matched", "n_same", "median_correlation", "median_score", "threshold", "n_images", "n_clusters")
LADDER = ("rung", "measure", "layer", "value", "low", "high", "floor", "ceiling", "note")
RUNGS = {"L1": "L1 probes that cross over", "L2": "L2 gender directions", "L3": "L3 latents of one dictionary", "L4": "L4 causal transfer"}
MEASURES = {
    "probe_transfer_en_ar": ("English to Arabic", LANGUAGE_COLOURS["en"], "o"),
    "probe_transfer_ar_en": ("Arabic to English", LANGUAGE_COLOURS["ar"], "s"),
    "direction_cosine": ("cosine of directions", ACCENT, "o"),
    "latent_rank_correlation": ("rank correlation", SERIES_COLOURS[2], "o"),
    "latent_top_overlap": ("overlap of the top 16", SERIES_COLOURS[1], "^"),
    "causal_transfer_en_ar": ("English latents in Arabic", LANGUAGE_COLOURS["en"], "o"),
    "causal_transfer_ar_en": ("Arabic latents in English", LANGUAGE_COLOURS["ar"], "s"),
}
AXIS = {"L1": "balanced accuracy", "L2": "cosine, corrected", "L3": "agreement", "L4": "stereotype left: theirs minus own"}


@styled
def draw_language_profile(table: Table) -> Figure:
    """Live latents per layer and language: above those that follow the gender shown, below those that follow the stereotype where none is shown.

    `table`: rows of the view `language_profile`.
    """
    rows = rows_of(table, "language_profile", PROFILE)
    languages, layers = distinct(rows, "language", LANGUAGES), sorted({int(row["layer"]) for row in rows})
    figure = new_figure(4.2 * len(languages) + 0.4, 5.6, "Latents that follow a gender: the one shown, and the one assumed")
    grid = figure.subplots(2, len(languages), squeeze=False, sharey="row")
    for place, language in enumerate(languages):
        of = sorted((row for row in rows if row["language"] == language), key=lambda row: row["layer"])
        _draw_groups(grid[0][place], of, SHOWN, f"{language}/shown")
        _draw_groups(grid[1][place], of, ASSUMED, f"{language}/assumed")
        grid[0][place].set_title(f"{language_name(language)}: gender shown")
        grid[1][place].set_title(f"{language_name(language)}: none shown, stereotype")
        for axes in (grid[0][place], grid[1][place]):
            layer_axis(axes, layers)
    for line in grid:
        line[0].set_ylabel("live latents")
        # Latents are counted: no tick lies between two of them.
        line[0].yaxis.get_major_locator().set_params(integer=True)
    dead = [int(row["n_dead"]) for row in rows]
    note = f"At the position that decides the gender, on images no dictionary was trained on; {min(dead):,} to {max(dead):,} latents are silent there."
    reason = next((f"{row['stereotype_note']}." for row in rows if row["stereotype_note"]), "")
    return finish(figure, sentences(note, reason[:1].upper() + reason[1:], count_note(rows)), named_artists(list(grid[0])), columns=4)


# (name, column, colour) of each piece of a bar, and the column of its control.
SHOWN = (
    (("women", "n_female", GENDER_COLOURS["woman"]), ("men", "n_male", GENDER_COLOURS["man"]), ("neither", "n_neutral", BAND)),
    "n_gendered_permuted",
)
ASSUMED = (
    (("women", "n_stereotype_female", GENDER_COLOURS["woman"]), ("men", "n_stereotype_male", GENDER_COLOURS["man"])),
    "n_stereotype_permuted",
)


def _draw_groups(axes: Axes, rows: list[Row], pieces: tuple[tuple[tuple[str, str, str], ...], str], name: str) -> None:
    """Stacked bars by layer with the count under permuted labels; a layer where it was not asked stays empty."""
    of = [row for row in rows if row[pieces[1]] is not None]
    if not of:
        axes.text(0.5, 0.5, "not asked", transform=axes.transAxes, ha="center", color=MUTED)
        return
    places, under = [int(row["layer"]) for row in of], [0.0] * len(of)
    for label, column, colour in pieces[0]:
        heights = [float(row[column]) for row in of]
        axes.bar(places, heights, 0.74, bottom=under, color=colour, label=f"follow {label}", gid=f"{name}/{label}")
        under = [low + height for low, height in zip(under, heights, strict=True)]
    axes.plot(places, [row[pieces[1]] for row in of], "_", color=INK, markersize=9, clip_on=False, label="called so with labels permuted")


@styled
def draw_latent_language(table: Table) -> Figure:
    """Latents of gender by the languages that they carry it in: counts per layer, and both associations. `table`: rows of the view `latent_language`."""
    rows = rows_of(table, "latent_language", LANGUAGE_LATENT)
    layers = sorted({int(row["layer"]) for row in rows})
    figure = new_figure(9.0, 4.2, "Do the latents of gender belong to one language or to both?")
    counts, scatter = figure.subplots(1, 2, width_ratios=(1.25, 1))
    under = [0.0] * len(layers)
    for verdict in distinct(rows, "verdict", tuple(VERDICTS)):
        of = [row for row in rows if row["verdict"] == verdict]
        heights = [float(sum(int(row["layer"]) == layer for row in of)) for layer in layers]
        style = {"color": VERDICT_COLOURS.get(verdict, MUTED), "label": VERDICTS.get(verdict, verdict)}
        counts.bar(layers, heights, 0.74, bottom=under, gid=f"counts/{verdict}", **style)
        under = [low + height for low, height in zip(under, heights, strict=True)]
        scatter.plot([gap(row, "auroc_en") for row in of], [gap(row, "auroc_ar") for row in of], linestyle="none", marker="o", markersize=3, alpha=0.7, **style)
    layer_axis(counts, layers)
    counts.set_ylabel("latents")
    counts.set_title("by layer")
    scatter.axhline(0.5, color=MUTED, linewidth=0.8)
    scatter.axvline(0.5, color=MUTED, linewidth=0.8)
    scatter.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="English: AUROC, women against men", ylabel="Arabic: AUROC")
    scatter.set_title("all layers", loc="left")
    note = "One language only: associated in it, and shown negligible in the other by an equivalence test; unclear: neither shown nor excluded."
    return finish(figure, sentences(note, count_note(rows)), named_artists([counts]), columns=4)


@styled
def draw_latent_matching(table: Table) -> Figure:
    """How many latents find a partner in the other language, and how alike partners are. `table`: rows of the view `latent_matching`."""
    rows = sorted(rows_of(table, "latent_matching", MATCHING), key=lambda row: row["layer"])
    require_numbers(rows, "median_correlation", "latent_matching")
    layers = [int(row["layer"]) for row in rows]
    figure = new_figure(9.0, 3.8, "Latents matched one to one across languages, over the same pictures")
    counts, alike = figure.subplots(1, 2)
    for column, name, colour in (
        ("n_pairs", "fire in both", BAND),
        ("n_matched", "matched above chance", SERIES_COLOURS[2]),
        ("n_same", "with itself", ACCENT),
    ):
        counts.bar(layers, [float(row[column]) for row in rows], 0.74, color=colour, label=name, gid=column)
    counts.set_ylabel("pairs of latents")
    alike.plot(layers, [gap(row, "median_correlation") for row in rows], marker="o", color=SERIES_COLOURS[2], label="median correlation")
    alike.plot(layers, [gap(row, "median_score") for row in rows], marker="s", color=SERIES_COLOURS[1], label="noise of pictures taken off")
    alike.plot(layers, [gap(row, "threshold") for row in rows], linestyle=":", color=INK, label="broken pairs, 95 %")
    alike.set_ylabel("correlation over pictures")
    for axes in (counts, alike):
        layer_axis(axes, layers)
        from_zero(axes)
    note = "Hungarian matching; chance is the same matching with pictures paired wrongly. A latent matched with another one carries the same content."
    return finish(figure, sentences(note, count_note(rows)), named_artists((counts, alike)), columns=3)


@styled
def draw_claim_ladder(table: Table) -> Figure:
    """The four rungs of the claim that the languages share gender, layer by layer, between floor and ceiling. `table`: rows of the view `claim_ladder`."""
    rows = rows_of(table, "claim_ladder", LADDER)
    require_numbers(rows, "value", "claim_ladder")
    figure = new_figure(10.4, 4.4, "What may be claimed of gender in two languages")
    panels = list(figure.subplots(1, len(RUNGS), squeeze=False)[0])
    layers = sorted({int(row["layer"]) for row in rows if row["layer"] is not None})
    for axes, (rung, title) in zip(panels, RUNGS.items(), strict=True):
        _draw_rung(axes, [row for row in rows if row["rung"] == rung and row["value"] is not None], layers)
        axes.set_title(title, fontsize=8.5)
        axes.set_ylabel(AXIS[rung], fontsize=8)
    note = "Dotted: floor, what chance reaches (L4: no transfer at all). Dashed: ceiling. Only L4 says that debiasing in one language works in the other."
    return finish(figure, sentences(note, missing_note(rows, "value", ("rung",))), named_artists(panels), columns=4)


def _draw_rung(axes: Axes, rows: list[Row], layers: list[int]) -> None:
    """One panel: a line per measure with its floor and ceiling; L4 is measured at one layer and shown as marks."""
    for measure in distinct(rows, "measure", tuple(MEASURES)):
        name, colour, marker = MEASURES.get(measure, (measure.replace("_", " "), MUTED, "D"))
        of = sorted((row for row in rows if row["measure"] == measure), key=lambda row: row["layer"])
        line = interval_line(axes, of, colour, ("layer", "value", "low", "high"), marker=marker, label=name, gid=measure)
        if len(of) == 1:
            axes.plot([of[0]["layer"]] * 2, [gap(of[0], "low"), gap(of[0], "high")], color=colour, linewidth=1.4)
            line.set_linestyle("none")
        for end, style in (("floor", ":"), ("ceiling", "--")):
            places, values = [int(row["layer"]) for row in of], [gap(row, end) for row in of]
            if len(of) == 1:
                places, values = [places[0] - 0.3, places[0] + 0.3], values * 2
            axes.plot(places, values, color=colour, linestyle=style, linewidth=0.9)
    if not rows:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=MUTED)
    layer_axis(axes, layers)
    axes.set_xlim(min(layers) - 0.5, max(layers) + 0.5)
