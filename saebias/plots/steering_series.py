"""Which interventions a steering figure shows, and what each one looks like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from saebias.plots.style import LANGUAGE_MARKERS, SERIES_COLOURS, Style, language_colour, language_name
from saebias.plots.tables import Row, Table, rows_of

PLACE = ("arm", "arm_name", "target", "layer", "language", "split", "strength")
CURVES = (*PLACE, "metric", "value", "low", "high", "n_images", "n_clusters", "note")
FRONTIER = (*PLACE, "spread_left", "spread_low", "spread_high", "clear_harm", "harm_low", "harm_high")
AXES_SHOWN = {
    "stereotype_spread": "stereotype left:\nspread of P(woman)",
    "masculine_default": "masculine default left:\n1/2 - mean P(woman)",
    "clear_harm": "harm on clear images:\nwrong + over-neutral",
}
MARKERS = "osD^vPX*"
DASHES = {"stereotype": "-", "none": "-", "visible": "--"}
BASELINE, RANDOM_SETS = "A0", "A6"


class Series(NamedTuple):
    """One intervention at all its strengths: arm, what it does, what it aims at (stereotype, visible, none), whose images chose it, layer."""

    arm: str
    name: str
    aim: str
    source: str
    layer: int

    @property
    def gid(self) -> str:
        """The name of its artists."""
        return "/".join(map(str, self))


def series_of(row: Row) -> Series:
    """The intervention of a row; a target such as stereotype/ar says both aim and source language."""
    aim, _, source = str(row["target"] or "none").partition("/")
    return Series(str(row["arm"]), str(row["arm_name"]), aim, source, int(row["layer"]))


def all_series(rows: Iterable[Row]) -> list[Series]:
    """The interventions that occur, without baseline and random sets, in the order of their arms."""
    found = {series_of(row) for row in rows if row["arm"] not in (BASELINE, RANDOM_SETS)}
    return sorted(found, key=lambda each: (len(each.arm), each))


def curve_rows(table: Table) -> list[Row]:
    """The rows of the view `steering_curves` that its figure draws: report split, what was chosen on images of the same language."""
    return rows_of([row for row in _reported(table) if series_of(row).source in ("", row["language"])], "steering_curves")


def transfer_rows(table: Table) -> list[Row]:
    """The rows of the view `steering_curves` that the transfer figure draws: ablated latents chosen in either language; none where no source is named."""
    ablations = [row for row in _reported(table) if row["arm"] == "A3" and series_of(row).source]
    baseline = [row for row in _reported(table) if row["arm"] == BASELINE]
    return rows_of([*baseline, *ablations] if ablations else [], "steering_transfer")


def frontier_rows(table: Table) -> list[Row]:
    """The rows of the view `steering_frontier` that its figure draws: report split, what was chosen on images of the same language."""
    rows = [row for row in rows_of(table, "steering_frontier", FRONTIER) if row["split"] == "report"]
    return rows_of([row for row in rows if series_of(row).source in ("", row["language"])], "steering_frontier")


def _reported(table: Table) -> list[Row]:
    return [row for row in rows_of(table, "steering_curves", CURVES) if row["split"] == "report" and row["metric"] in AXES_SHOWN]


def one_layer_each(rows: list[Row]) -> bool:
    """Whether each language is steered at one layer: then the panel names it, and the legend need not."""
    places = {(row["language"], row["layer"]) for row in rows}
    return len(places) == len({language for language, _ in places})


def looks_by_arm(found: list[Series], *, name_layers: bool) -> dict[Series, Style]:
    """Colour and marker say what is done, the dash says what it aims at."""
    arms = list(dict.fromkeys((each.arm, each.name) for each in found))
    layers = name_layers and len({each.layer for each in found}) > 1
    looks: dict[Series, Style] = {}
    for each in found:
        place = arms.index((each.arm, each.name))
        aim = "" if each.aim == "none" else f" ({each.aim})"
        label = f"{each.arm} {each.name}{aim}" + (f", layer {each.layer}" if layers else "")
        colour, marker = SERIES_COLOURS[place % len(SERIES_COLOURS)], MARKERS[place % len(MARKERS)]
        looks[each] = {"color": colour, "marker": marker, "linestyle": DASHES.get(each.aim, ":"), "label": label}
    return looks


def looks_by_source(found: list[Series]) -> dict[Series, Style]:
    """Colour and marker say whose images chose the latents, the dash says what they were chosen for."""
    looks: dict[Series, Style] = {}
    for each in found:
        label = f"{each.aim} latents chosen in {language_name(each.source)}"
        marker = LANGUAGE_MARKERS.get(each.source, "D")
        looks[each] = {"color": language_colour(each.source), "marker": marker, "linestyle": DASHES.get(each.aim, ":"), "label": label}
    return looks
