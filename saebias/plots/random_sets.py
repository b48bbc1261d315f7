"""Is the effect more than any latents would do: the null distribution of matched random sets, and how well they match."""

from __future__ import annotations

from matplotlib.figure import Figure

from saebias.plots.style import INK, LANGUAGES, MUTED, SERIES_COLOURS, Style, finish, language_colour, language_name, legend_below, new_figure, styled
from saebias.plots.tables import Table, distinct, gap, missing_note, number, require_numbers, rows_of, sentences

NULL = ("target", "language", "metric", "label", "set_no", "value", "arm", "arm_value", "p")
BALANCE = ("target", "language", "covariate", "standardized_difference")
TARGET_MARKERS = {"visible": "o", "stereotype": "D"}


@styled
def draw_random_null(table: Table, metric: str = "stereotype_spread") -> Figure:
    """Histogram of one metric over the matched random sets, with the intervention's own value as a line and its permutation p.

    `table`: rows of the view `random_null_sets`.
    """
    name = "random_null"
    rows = rows_of([row for row in rows_of(table, name, NULL) if row["metric"] == metric], name)
    require_numbers(rows, "value", name)
    targets, languages = distinct(rows, "target", ("visible", "stereotype")), distinct(rows, "language", LANGUAGES)
    figure = new_figure(4.3 * len(languages) + 0.3, 2.0 * len(targets) + 1.1, "More than random latents would do?")
    panels = figure.subplots(len(targets), len(languages), squeeze=False, sharex=True)
    for line, target in enumerate(targets):
        for column, language in enumerate(languages):
            axes = panels[line, column]
            chosen = [row for row in rows if (row["target"], row["language"]) == (target, language)]
            values = [value for row in chosen if (value := number(row, "value")) is not None]
            axes.hist(values, bins=24, color=language_colour(language), alpha=0.55)
            axes.set_title(f"{language_name(language)}, latents chosen for {target} (n = {len(values)} sets)", fontsize=8.5)
            arm_values = [value for row in chosen[:1] if (value := number(row, "arm_value")) is not None]
            for value in arm_values:
                axes.axvline(value, color=INK, linewidth=1.8)
                p = number(chosen[0], "p")
                said = f"{chosen[0]['arm']}" + ("" if p is None else f", p = {p:.3g}")
                axes.annotate(said, (value, 1), xycoords=("data", "axes fraction"), xytext=(4, -3), textcoords="offset points", va="top", fontsize=8)
            if not arm_values:
                axes.text(0.03, 0.9, "the arm has no value here", transform=axes.transAxes, fontsize=8, color=MUTED, style="italic", va="top")
        panels[line, 0].set_ylabel("random sets")
    for axes in panels[-1]:
        axes.set_xlabel(str(rows[0]["label"] or metric.replace("_", " ")))
    note = "Bars: matched random latent sets, full strength, report split. Line: the intervention."
    return finish(figure, sentences(note, missing_note(rows, "value", ("target", "language", "set_no"))))


@styled
def draw_matching_balance(table: Table) -> Figure:
    """Absolute standardised difference of each covariate between the chosen and the matched random latents; under .1 is alike.

    `table`: rows of the view `matching`.
    """
    name = "matching_balance"
    rows = rows_of(table, name, BALANCE)
    require_numbers(rows, "standardized_difference", name)
    covariates = distinct(rows, "covariate")[::-1]
    series = [(target, language) for target in distinct(rows, "target", ("visible", "stereotype")) for language in distinct(rows, "language", LANGUAGES)]
    figure = new_figure(7.0, 1.8 + 0.36 * len(covariates), "Are the random latents like the chosen ones?")
    axes = figure.add_subplot()
    for place, (target, language) in enumerate(series):
        chosen = [row for row in rows if (row["target"], row["language"]) == (target, language)]
        shift = 0.12 * (place - (len(series) - 1) / 2)
        colour = language_colour(language) if language in LANGUAGES else SERIES_COLOURS[place % len(SERIES_COLOURS)]
        mark: Style = {
            "marker": TARGET_MARKERS.get(target, "s"),
            "linestyle": "none",
            "label": f"{target}, {language_name(language)}",
            "gid": f"{target}/{language}",
        }
        places = [covariates.index(row["covariate"]) - shift for row in chosen]
        axes.plot([abs(gap(row, "standardized_difference")) for row in chosen], places, color=colour, **mark)
    axes.axvline(0.1, color=MUTED, linestyle="--", linewidth=1.1)
    axes.set(xlabel="|standardised difference|", xlim=(0, None), ylim=(-0.6, len(covariates) - 0.4))
    axes.set_yticks(range(len(covariates)), [str(each) for each in covariates])
    legend_below(axes)
    return finish(
        figure, sentences("Dashed: .1, the bound for calling two sets alike.", missing_note(rows, "standardized_difference", ("covariate", "language")))
    )
