"""How the dictionaries were trained, and whether another seed finds the same latents."""

from __future__ import annotations

from matplotlib.figure import Figure

from saebias.plots.style import INK, MUTED, SERIES_COLOURS, finish, from_zero, legend_below, named_artists, new_figure, styled
from saebias.plots.tables import Row, Table, count_note, distinct, gap, require_numbers, rows_of, sentences

STABILITY = ("layer", "seed", "other_seed", "compared_with", "n_live", "stable_share", "mean_cosine", "mean_correlation", "null_cosine", "null_cosine_high")
CURVES = ("layer", "seed", "role", "step", "fvu", "l0", "dead_share")


def _compared(row: Row) -> str:
    other = "frozen random decoder" if row["compared_with"] == "control" else f"seed {row['other_seed']}"
    return f"layer {row['layer']}, {other}"


@styled
def draw_stability(table: Table) -> Figure:
    """Share of live latents found again, and mean decoder cosine and correlation of the pairs with the cosine that chance gives.

    `table`: rows of the view `dictionary_stability`.
    """
    name = "dictionary_stability"
    rows = sorted(rows_of(table, name, STABILITY), key=lambda row: (row["layer"], row["compared_with"] == "control", row["other_seed"]))
    require_numbers(rows, "stable_share", name)
    labels = [_compared(row) for row in rows]
    places = list(range(len(rows)))[::-1]
    figure = new_figure(9.0, 1.7 + 0.34 * len(rows), "Would another seed find the same latents?")
    share, similar = figure.subplots(1, 2, sharey=True)
    colours = [MUTED if row["compared_with"] == "control" else SERIES_COLOURS[0] for row in rows]
    share.barh(places, [gap(row, "stable_share") for row in rows], color=colours, height=0.6)
    share.set(title="Latents found again", xlabel="share of live latents", xlim=(0, 1))
    share.set_yticks(places, labels)
    for column, marker, label in (("mean_cosine", "o", "decoder cosine"), ("mean_correlation", "D", "correlation of activations")):
        similar.plot([gap(row, column) for row in rows], places, marker=marker, linestyle="none", color=SERIES_COLOURS[0], label=label, gid=column)
    similar.plot(
        [gap(row, "null_cosine") for row in rows], places, marker="|", markersize=12, linestyle="none", color=INK, label="cosine by chance", gid="null"
    )
    similar.set(title="Mean over the pairs", xlabel="similarity", xlim=(min(0.0, *(gap(row, "mean_correlation") for row in rows)), 1))
    legend_below(similar)
    note = "Pairs by one-to-one matching; found again: cosine of .7, correlation of .5 at least, above chance at level .01. The frozen decoder is the null."
    return finish(figure, sentences(note, count_note(rows, {"n_live": "live latents"})), named_artists([similar]))


def curve_rows(table: Table) -> list[Row]:
    """The training curves that the figure draws: main dictionaries, the seeds beside them and the control, not those of other sizes."""
    return rows_of([row for row in rows_of(table, "training_curves", CURVES) if row["role"] != "sweep"], "training_curves")


@styled
def draw_training_curves(table: Table) -> Figure:
    """FVU (log scale) and dead share of the training rows by step, one line per dictionary.

    `table`: rows of the view `training_curves`.
    """
    name = "training_curves"
    rows = curve_rows(table)
    require_numbers(rows, "fvu", name)
    figure = new_figure(9.0, 3.6, "How the dictionaries learned")
    panels = figure.subplots(1, 2)
    layers = distinct(rows, "layer")
    dashes = {"main": "-", "seed": ":", "control": "--"}
    for axes, (column, title, unit) in zip(panels, (("fvu", "Variance left unexplained", "FVU"), ("dead_share", "Dead latents", "share")), strict=True):
        for key in dict.fromkeys((row["layer"], row["role"], row["seed"]) for row in rows):
            layer, role, seed = key
            chosen = sorted((row for row in rows if (row["layer"], row["role"], row["seed"]) == key), key=lambda row: row["step"])
            colour = INK if role == "control" else SERIES_COLOURS[layers.index(layer) % len(SERIES_COLOURS)]
            label = f"layer {layer}" if role == "main" else f"layer {layer}, " + ("frozen random decoder" if role == "control" else f"seed {seed}")
            steps, values = [row["step"] for row in chosen], [gap(row, column) for row in chosen]
            axes.plot(steps, values, color=colour, linestyle=dashes[role], linewidth=1.2, label=label, gid=f"{column}/{layer}/{role}/{seed}")
        axes.set(title=title, ylabel=unit, xlabel="step")
    panels[0].set_yscale("log")
    from_zero(panels[1])
    note = "On the rows learned from, averaged between points; what is found on unseen images stands in the quality table."
    return finish(figure, note, named_artists(panels[:1]), columns=4)
