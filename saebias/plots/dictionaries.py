"""Quality of the dictionaries: what they leave unexplained, how many latents fire, how many are dead."""

from __future__ import annotations

from matplotlib.figure import Figure

from saebias.identifiers import LANGUAGES
from saebias.plots.style import LANGUAGE_MARKERS, SERIES_COLOURS, finish, from_zero, language_name, layer_axis, named_artists, new_figure, styled
from saebias.plots.tables import Row, Table, count_note, distinct, gap, missing_note, require_numbers, rows_of, sentences

COLUMNS = ("layer", "token_kind", "language", "split", "fvu", "l0", "dead_share", "n_rows", "note", "seed", "role")
KINDS = ("image", "prompt", "caption", "decision", "all")
DASHES = {"en": "-", "ar": "--"}


def quality_rows(table: Table) -> list[Row]:
    """The rows of the view that the figure draws: report split (else the first there is), main dictionaries."""
    rows = rows_of([row for row in rows_of(table, "sae_quality", COLUMNS) if row["role"] == "main"], "sae_quality")
    split = distinct(rows, "split", ("report",))[0]
    return rows_of([row for row in rows if row["split"] == split], "sae_quality")


@styled
def draw_sae_quality(table: Table) -> Figure:
    """Centred FVU, L0 and dead share by layer, one line per token kind and language, on the report split where there is one.

    `table`: rows of the view `sae_quality_by_layer`; the control with a frozen decoder, further seeds and sizes are not drawn.
    """
    name = "sae_quality"
    rows = quality_rows(table)
    require_numbers(rows, "fvu", name)
    figure = new_figure(9.6, 3.9, "How well the dictionaries explain the model")
    panels = figure.subplots(1, 3)
    titles = {"fvu": ("Variance left unexplained", "centred FVU"), "l0": ("Latents active per token", "L0"), "dead_share": ("Dead latents", "share")}
    for axes, (column, (title, unit)) in zip(panels, titles.items(), strict=True):
        for kind, colour in zip(distinct(rows, "token_kind", KINDS), SERIES_COLOURS, strict=False):
            for language in distinct(rows, "language", LANGUAGES):
                chosen = sorted((row for row in rows if (row["token_kind"], row["language"]) == (kind, language)), key=lambda row: row["layer"])
                style = {"linestyle": DASHES.get(language, ":"), "marker": LANGUAGE_MARKERS.get(language, "D"), "markersize": 3.5, "linewidth": 1.3}
                label = f"{kind}, {language_name(language)}"
                axes.plot(
                    [row["layer"] for row in chosen],
                    [gap(row, column) for row in chosen],
                    color=colour,
                    label=label,
                    gid=f"{column}/{kind}/{language}",
                    **style,
                )
        axes.set(title=title, ylabel=unit)
        from_zero(axes)
        layer_axis(axes, sorted({int(row["layer"]) for row in rows}))
    note = f"Split {rows[0]['split']}, images never trained on. An FVU of 1 explains nothing. {count_note(rows, {'n_rows': 'tokens'})}"
    return finish(figure, sentences(note, missing_note(rows, "fvu", ("token_kind", "language", "layer"))), named_artists(panels[:1]), columns=4)
