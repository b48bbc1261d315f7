"""What interventions do: dose response on both axes, the frontier between them, the random-set null and its balance."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.plots.style import (
    BAND,
    INK,
    LANGUAGES,
    MUTED,
    SERIES_COLOURS,
    Style,
    finish,
    interval_line,
    interval_points,
    language_name,
    named_artists,
    new_figure,
    styled,
)
from saebias.plots.tables import Row, Table, count_note, distinct, gap, missing_note, number, require_numbers, rows_of, sentences

CURVES = ("arm", "arm_name", "target", "language", "split", "strength", "metric", "value", "low", "high", "n_images", "n_clusters", "note")
FRONTIER = ("arm", "arm_name", "target", "language", "split", "strength", "spread_left", "spread_low", "spread_high", "clear_harm", "harm_low", "harm_high")
AXES_SHOWN = {
    "stereotype_spread": "stereotype left:\nspread of P(woman)",
    "masculine_default": "masculine default left:\n1/2 - mean P(woman)",
    "clear_harm": "harm on clear images:\nwrong + over-neutral",
}
MARKERS = "osD^vPX*"


@styled
def draw_steering_curves(table: Table) -> Figure:
    """Dose response: what is left of the stereotype and the default, and the harm on clear images, with intervals, baseline and random-set band.

    `table`: rows of the view `steering_curves`; drawn are the report split and, as a grey band, the matched random sets (arm A6).
    """
    name = "steering_curves"
    rows = [row for row in rows_of(table, name, CURVES) if row["split"] == "report" and row["metric"] in AXES_SHOWN]
    rows = rows_of(rows, name)
    require_numbers(rows, "value", name)
    metrics, languages = distinct(rows, "metric", tuple(AXES_SHOWN)), distinct(rows, "language", LANGUAGES)
    series = _series(rows)
    figure = new_figure(4.2 * len(languages) + 0.5, 2.1 * len(metrics) + 1.5, "What the interventions remove, and what they break")
    panels = figure.subplots(len(metrics), len(languages), squeeze=False, sharex=True, sharey="row")
    for line, metric in enumerate(metrics):
        for column, language in enumerate(languages):
            chosen = [row for row in rows if row["metric"] == metric and row["language"] == language]
            _draw_doses(panels[line, column], chosen, series)
        panels[line, 0].set_ylabel(AXES_SHOWN[metric])
    for axes, language in zip(panels[0], languages, strict=True):
        axes.set_title(language_name(language))
    for axes in panels[-1]:
        axes.set_xlabel("strength of the edit")
    note = "Report split. Bands and whiskers: 95 % intervals. Grey: 95 % of matched random latent sets. Dotted: baseline (A0)."
    missing = missing_note(rows, "value", ("arm", "target", "language", "metric", "strength"))
    return finish(figure, sentences(note, count_note(rows), missing), named_artists(panels.flat), columns=2)


def _series(rows: list[Row]) -> dict[tuple[str, str], tuple[str, str]]:
    """Colour and marker of each (arm, target) that is neither the baseline nor the random sets."""
    keys = sorted({(str(row["arm"]), str(row["target"])) for row in rows if row["arm"] not in ("A0", "A6")}, key=lambda key: (len(key[0]), key))
    return {key: (SERIES_COLOURS[place % len(SERIES_COLOURS)], MARKERS[place % len(MARKERS)]) for place, key in enumerate(keys)}


def _draw_doses(axes: Axes, rows: list[Row], series: dict[tuple[str, str], tuple[str, str]]) -> None:
    """One panel: the random band, the baseline, and each arm by strength (an arm of one strength is a single mark)."""
    for row in rows:
        if row["arm"] == "A6" and number(row, "low") is not None and number(row, "high") is not None:
            band: Style = {"color": BAND, "alpha": 0.45, "linewidth": 0, "label": "A6 matched random latents", "gid": f"random/{row['target']}"}
            axes.axhspan(gap(row, "low"), gap(row, "high"), **band)
    baseline = [row for row in rows if row["arm"] == "A0"]
    for row in baseline:
        axes.axhline(gap(row, "value"), color=MUTED, linestyle=":", linewidth=1.2, label="A0 baseline")
    for (arm, target), (colour, marker) in series.items():
        chosen = [row for row in rows if (row["arm"], row["target"]) == (arm, target)]
        if not chosen:
            continue
        label = _arm_label(chosen[0])
        if len(chosen) == 1:
            # Open marks, larger than a line's: arms that equal the baseline lie on it and on each other.
            size = 6 + 2 * list(series).index((arm, target))
            mark: Style = {"marker": marker, "label": label, "markerfacecolor": "none", "markersize": size, "gid": f"{arm}/{target}"}
            interval_points(axes, [(float(chosen[0]["strength"]), chosen[0])], ("value", "low", "high"), colour, **mark)
        else:
            interval_line(axes, chosen, colour, ("strength", "value", "low", "high"), marker=marker, label=label, gid=f"{arm}/{target}")


def _arm_label(row: Row) -> str:
    """The arm as a reader calls it, with what it aims at."""
    return f"{row['arm']} {row['arm_name']}" + ("" if row["target"] in (None, "none") else f" ({row['target']})")


@styled
def draw_frontier(table: Table) -> Figure:
    """Both axes at once: stereotype left against harm on clear images, each arm a path over its strengths; better is lower left.

    `table`: rows of the view `steering_frontier`.
    """
    name = "steering_frontier"
    rows = rows_of([row for row in rows_of(table, name, FRONTIER) if row["split"] == "report"], name)
    require_numbers(rows, "spread_left", name)
    languages, series = distinct(rows, "language", LANGUAGES), _series(rows)
    figure = new_figure(4.2 * len(languages) + 0.5, 4.6, "The price of removing the stereotype")
    panels = figure.subplots(1, len(languages), squeeze=False, sharex=True, sharey=True)[0]
    for axes, language in zip(panels, languages, strict=True):
        for (arm, target), (colour, marker) in series.items():
            chosen = sorted((row for row in rows if (row["arm"], row["target"], row["language"]) == (arm, target, language)), key=lambda row: row["strength"])
            if not chosen:
                continue
            for row in chosen:
                axes.plot([gap(row, "harm_low"), gap(row, "harm_high")], [gap(row, "spread_left")] * 2, color=colour, alpha=0.4, linewidth=1)
                axes.plot([gap(row, "clear_harm")] * 2, [gap(row, "spread_low"), gap(row, "spread_high")], color=colour, alpha=0.4, linewidth=1)
            # Arms of one strength are open marks: those that equal the baseline lie on its star.
            single = len(chosen) == 1
            path: Style = {"marker": marker, "markerfacecolor": "none" if single else colour, "markersize": 10 if single else 5}
            path |= {"label": _arm_label(chosen[0]), "gid": f"{arm}/{target}/{language}"}
            axes.plot([gap(row, "clear_harm") for row in chosen], [gap(row, "spread_left") for row in chosen], color=colour, **path)
        for row in (row for row in rows if row["arm"] == "A0" and row["language"] == language):
            axes.plot([gap(row, "clear_harm")], [gap(row, "spread_left")], marker="*", markersize=12, color=INK, linestyle="none", label="A0 baseline")
        axes.axhline(0, color=MUTED, linewidth=0.9)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        axes.set(title=language_name(language), xlabel="harm on clear images (wrong + over-neutral)")
    panels[0].set_ylabel("stereotype left (spread of P(woman))")
    note = "Lower left is better. Report split; whiskers: 95 % intervals; lines join rising strengths."
    missing = missing_note(rows, "spread_left", ("arm", "target", "language", "strength"))
    return finish(figure, sentences(note, count_note(rows), missing), named_artists(panels), columns=2)
