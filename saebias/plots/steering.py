"""What interventions do at each dose, with the latents of the same language and of the other one."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.steering_series import (
    AXES_SHOWN,
    BASELINE,
    RANDOM_SETS,
    Series,
    all_series,
    curve_rows,
    looks_by_arm,
    looks_by_source,
    one_layer_each,
    series_of,
    transfer_rows,
)
from saebias.plots.style import BAND, MUTED, Style, finish, interval_points, language_name, named_artists, new_figure, styled
from saebias.plots.tables import Row, Table, count_note, distinct, gap, missing_note, number, require_numbers, sentences

# Interventions of one strength stand side by side, so that their whiskers can be told apart.
SIDESTEP = 0.009


@styled
def draw_steering_curves(table: Table) -> Figure:
    """Dose response: what is left of the stereotype and the default, and the harm on clear images, with intervals, baseline and random-set band.

    `table`: rows of the view `steering_curves`; drawn are the report split and, as a grey band, the matched random sets (arm A6).
    """
    rows = curve_rows(table)
    figure = _dose_figure(
        rows, looks_by_arm(all_series(rows), name_layers=not one_layer_each(rows)), "What the interventions remove, and what they break", "steering_curves"
    )
    note = "Report split; whiskers: 95 % intervals, slightly apart for the eye; grey: 95 % of matched random latent sets; dotted: baseline (A0)."
    return _with_note(figure, rows, note)


@styled
def draw_steering_transfer(table: Table) -> Figure:
    """Dose response of ablating latents chosen in one language, measured in both: does what is learned in one carry over to the other?

    `table`: rows of the view `steering_curves` whose targets name a source language, such as stereotype/ar.
    """
    rows = transfer_rows(table)
    figure = _dose_figure(rows, looks_by_source(all_series(rows)), "Do one language's latents steer the other?", "steering_transfer")
    return _with_note(figure, rows, "Columns: language of the captions. Report split; whiskers: 95 % intervals; dotted: baseline (A0).")


def _dose_figure(rows: list[Row], looks: dict[Series, Style], title: str, name: str) -> Figure:
    """A grid of metric by language, each panel with all interventions by strength."""
    require_numbers(rows, "value", name)
    metrics, languages = distinct(rows, "metric", tuple(AXES_SHOWN)), distinct(rows, "language", LANGUAGES)
    figure = new_figure(4.2 * len(languages) + 0.5, 2.1 * len(metrics) + 1.3 + 0.17 * -(-len(looks) // 2), title)
    panels = figure.subplots(len(metrics), len(languages), squeeze=False, sharex=True, sharey="row")
    for line, metric in enumerate(metrics):
        for column, language in enumerate(languages):
            _draw_doses(panels[line, column], [row for row in rows if row["metric"] == metric and row["language"] == language], looks)
        panels[line, 0].set_ylabel(AXES_SHOWN[metric])
    for axes, language in zip(panels[0], languages, strict=True):
        layers = distinct([row for row in rows if row["language"] == language], "layer", ())
        axes.set_title(language_name(language) + (f", layer {layers[0]}" if len(layers) == 1 else ""))
    for axes in panels[-1]:
        axes.set_xlabel("strength of the edit")
    return figure


def _with_note(figure: Figure, rows: list[Row], note: str) -> Figure:
    """Legend and note."""
    missing = missing_note(rows, "value", ("arm", "target", "language", "metric", "strength"))
    return finish(figure, sentences(note, count_note(rows), missing), named_artists(figure.axes), columns=2)


def _draw_doses(axes: Axes, rows: list[Row], looks: dict[Series, Style]) -> None:
    """One panel: the random band, the baseline, and each intervention by strength (one of a single strength is a single mark)."""
    for row in rows:
        if row["arm"] == RANDOM_SETS and number(row, "low") is not None and number(row, "high") is not None:
            band: Style = {"color": BAND, "alpha": 0.4, "linewidth": 0, "label": "A6 matched random latents", "gid": f"random/{row['target']}"}
            axes.axhspan(gap(row, "low"), gap(row, "high"), **band)
        if row["arm"] == BASELINE:
            axes.axhline(gap(row, "value"), color=MUTED, linestyle=":", linewidth=1.2, label="A0 baseline")
    for place, (each, look) in enumerate(looks.items()):
        chosen = [row for row in rows if series_of(row) == each]
        style: Style = {key: value for key, value in look.items() if key not in ("color", "linestyle")} | {"gid": each.gid}
        if len(chosen) == 1:
            # Open marks of different sizes: arms that equal the baseline lie on it and on each other.
            style |= {"markerfacecolor": "none", "markersize": 6 + 2 * place}
            interval_points(axes, [(float(chosen[0]["strength"]), chosen[0])], ("value", "low", "high"), look["color"], **style)
        elif chosen:
            places = [float(row["strength"]) + SIDESTEP * (place - len(looks) / 2) for row in sorted(chosen, key=lambda row: row["strength"])]
            points = list(zip(places, sorted(chosen, key=lambda row: row["strength"]), strict=True))
            interval_points(axes, points, ("value", "low", "high"), look["color"], **style).set_linestyle(look["linestyle"])
