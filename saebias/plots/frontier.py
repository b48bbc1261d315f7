"""Both axes of an intervention at once: what is left of the stereotype against the harm done."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.steering_series import BASELINE, Series, all_series, frontier_rows, looks_by_arm, one_layer_each, series_of
from saebias.plots.style import INK, MUTED, Style, finish, language_name, named_artists, new_figure, styled
from saebias.plots.tables import Row, Table, count_note, distinct, gap, missing_note, require_numbers, sentences


@styled
def draw_frontier(table: Table) -> Figure:
    """Stereotype left against harm on clear images, each arm a path over its strengths; better is lower left.

    `table`: rows of the view `steering_frontier`.
    """
    name = "steering_frontier"
    rows = frontier_rows(table)
    require_numbers(rows, "spread_left", name)
    languages, looks = distinct(rows, "language", LANGUAGES), looks_by_arm(all_series(rows), name_layers=not one_layer_each(rows))
    figure = new_figure(4.2 * len(languages) + 0.5, 4.2 + 0.17 * -(-len(looks) // 2), "The price of removing the stereotype")
    panels = list(figure.subplots(1, len(languages), squeeze=False, sharex=True, sharey=True)[0])
    for axes, language in zip(panels, languages, strict=True):
        _draw_paths(axes, [row for row in rows if row["language"] == language], looks)
        axes.set(title=language_name(language), xlabel="harm on clear images (wrong + over-neutral)")
    panels[0].set_ylabel("stereotype left (spread of P(woman))")
    note = "Lower left is better. Report split; whiskers: 95 % intervals; lines join rising strengths."
    missing = missing_note(rows, "spread_left", ("arm", "target", "language", "strength"))
    return finish(figure, sentences(note, count_note(rows), missing), named_artists(panels), columns=2)


def _draw_paths(axes: Axes, rows: list[Row], looks: dict[Series, Style]) -> None:
    """One panel: a path per intervention, the baseline as a star."""
    for each, look in looks.items():
        chosen = sorted((row for row in rows if series_of(row) == each), key=lambda row: row["strength"])
        if not chosen:
            continue
        for row in chosen:
            axes.plot([gap(row, "harm_low"), gap(row, "harm_high")], [gap(row, "spread_left")] * 2, color=look["color"], alpha=0.35, linewidth=1)
            axes.plot([gap(row, "clear_harm")] * 2, [gap(row, "spread_low"), gap(row, "spread_high")], color=look["color"], alpha=0.35, linewidth=1)
        # Arms of one strength are open marks: those that equal the baseline lie on its star.
        single: Style = {"markerfacecolor": "none", "markersize": 10, "linestyle": "none"} if len(chosen) == 1 else {"markersize": 4.5}
        style: Style = look | single | {"gid": f"{each.gid}/{chosen[0]['language']}"}
        axes.plot([gap(row, "clear_harm") for row in chosen], [gap(row, "spread_left") for row in chosen], **style)
    for row in (row for row in rows if row["arm"] == BASELINE):
        axes.plot([gap(row, "clear_harm")], [gap(row, "spread_left")], marker="*", markersize=12, color=INK, linestyle="none", label="A0 baseline")
    axes.axhline(0, color=MUTED, linewidth=0.9)
    axes.axvline(0, color=MUTED, linewidth=0.9)
