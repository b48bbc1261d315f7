"""Behaviour figures: outcomes on clear images, and the steps from data to greedy captions."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.style import (
    GENDERS,
    LANGUAGE_MARKERS,
    MUTED,
    OUTCOME_COLOURS,
    Style,
    finish,
    from_zero,
    interval_points,
    language_colour,
    language_name,
    legend_below,
    named_artists,
    new_figure,
    styled,
)
from saebias.plots.tables import Row, Table, count_note, distinct, missing_note, number, require_numbers, rows_of, sentences

OUTCOMES = ("language", "image_shows", "outcome", "share", "low", "high", "n_images", "n_clusters", "note", "profession")
STEPS = ("language", "place", "step", "skew", "low", "high", "added", "added_low", "added_high", "n_images", "n_clusters", "note")


def outcome_rows(table: Table) -> list[Row]:
    """The rows of the view `outcomes` that its figure draws: all professions together."""
    return rows_of([row for row in rows_of(table, "outcomes", OUTCOMES) if row["profession"] is None], "outcomes")


@styled
def draw_outcomes(table: Table) -> Figure:
    """What is said about images that show a woman or a man: shares as stacked bars, and wrong and neutral ones with intervals.

    `table`: rows of the view `outcomes`; rows of single professions are not drawn.
    """
    name = "outcomes"
    rows = outcome_rows(table)
    require_numbers(rows, "share", name)
    bars = [(language, shown) for language in distinct(rows, "language", LANGUAGES) for shown in distinct(rows, "image_shows", GENDERS)][::-1]
    labels = [f"{language_name(language)}, {shown} shown" for language, shown in bars]
    figure = new_figure(9.0, 1.9 + 0.42 * len(bars), "What the captions say of a person whose gender is plain to see")
    stack, errors = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    _stack(stack, rows, bars)
    for shift, outcome in ((0.14, "wrong"), (-0.14, "neutral")):
        points = [(place + shift, row) for place, bar in enumerate(bars) for row in _one(rows, bar, outcome)]
        marks: Style = {"marker": "D" if outcome == "wrong" else "o", "label": outcome}
        interval_points(errors, points, ("share", "low", "high"), "#882255" if outcome == "wrong" else "#a08a1f", upright=False, **marks)
    errors.axvline(0, color=MUTED, linewidth=1)
    errors.set(xlabel="share, with 95 % interval", title="Wrong and neutral")
    stack.set(xlim=(0, 1), xlabel="share of captions")
    stack.set_yticks(range(len(bars)), labels)
    for axes in (stack, errors):
        axes.grid(axis="y", visible=False)
    legend = named_artists([stack]) | {f"{name} (right)": mark for name, mark in named_artists([errors]).items()}
    note = sentences("Percentages under 8 % are not written into the bars.", count_note(rows))
    return finish(figure, sentences(note, missing_note(rows, "share", ("language", "image_shows", "outcome"))), legend, columns=7)


@styled
def draw_amplification(table: Table) -> Figure:
    """Mean |share of women - 1/2| from the training captions to greedy captions, and what each step adds, with intervals.

    `table`: rows of the view `amplification`.
    """
    name = "amplification"
    rows = rows_of(table, name, STEPS)
    require_numbers(rows, "skew", name)
    ticks = {int(row["place"]): str(row["step"]).replace(" ", "\n", 1) for row in sorted(rows, key=lambda row: row["place"])}
    languages = distinct(rows, "language", LANGUAGES)
    figure = new_figure(9.0, 3.7, "Who adds the skew: the data, the model, or the decoding")
    levels, steps = figure.subplots(1, 2)
    for shift, language in zip((-0.06, 0.06, 0.0), languages, strict=False):
        chosen = sorted((row for row in rows if row["language"] == language), key=lambda row: row["place"])
        marks: Style = {"marker": LANGUAGE_MARKERS.get(language, "D"), "markersize": 5.5, "label": language_name(language)}
        points = [(row["place"] + shift, row) for row in chosen]
        interval_points(levels, points, ("skew", "low", "high"), language_colour(language), **marks).set_linestyle("-")
        added = [(place, row) for place, row in points if number(row, "added") is not None]
        interval_points(steps, added, ("added", "added_low", "added_high"), language_colour(language), **marks)
    steps.axhline(0, color=MUTED, linewidth=1)
    levels.set(title="Skew at each step", ylabel="mean |share of women - 1/2|")
    from_zero(levels)
    steps.set(title="Added by the step", ylabel="difference to the step before")
    for axes in (levels, steps):
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlim(min(ticks) - 0.4, max(ticks) + 0.4)
    legend_below(levels)
    note = "0: women and men named equally often in every profession. Whiskers: 95 % image-cluster intervals."
    return finish(figure, sentences(note, count_note(rows), missing_note(rows, "skew", ("language", "step"))))


def _one(rows: list[Row], bar: tuple[str, str], outcome: str) -> list[Row]:
    """The row of a bar and outcome, in a list that is empty when there is none."""
    return [row for row in rows if (row["language"], row["image_shows"]) == bar and row["outcome"] == outcome]


def _stack(axes: Axes, rows: list[Row], bars: list[tuple[str, str]]) -> None:
    """Stacked shares; a bar without numbers says so instead of being empty."""
    ends = [0.0] * len(bars)
    for outcome in distinct(rows, "outcome", tuple(OUTCOME_COLOURS)):
        shares = [next((value for row in _one(rows, bar, outcome) if (value := number(row, "share")) is not None), None) for bar in bars]
        widths = [0.0 if share is None else share for share in shares]
        axes.barh(range(len(bars)), widths, left=ends, height=0.62, color=OUTCOME_COLOURS.get(outcome, "#444444"), label=outcome)
        for place, (share, end) in enumerate(zip(shares, ends, strict=True)):
            if share is not None and share >= 0.08:
                light = outcome in ("wrong", "mixed")
                axes.text(end + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8, color="#fefefe" if light else "#111111")
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for place, end in enumerate(ends):
        if end == 0:
            axes.text(0.02, place, "not measured", va="center", fontsize=8, color=MUTED, style="italic")
