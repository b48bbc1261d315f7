"""Laws of the figures: they show the table's numbers and nothing else, say what is missing, and never draw an empty picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from saebias.errors import InputError, StoreError
from saebias.plots.directions import interactive_gender_direction, thinned
from saebias.plots.gallery import GALLERY, GalleryFigure
from saebias.plots.saving import figure_svg, save_figure, table_csv
from saebias.plots.style import drawable

Ask = Callable[[str], pa.Table]
BY_NAME = {item.name: item for item in GALLERY}


def own_language(ask: Ask) -> list[dict]:
    """Steering curves with sources named, as where latents are chosen per language."""
    rows = ask("from steering_curves").to_pylist()
    named = [row | {"target": f"{row['target']}/{source}"} for row in rows if row["target"] != "none" for source in ("en", "ar")]
    return [row for row in rows if row["target"] == "none"] + named


def table_of(item: GalleryFigure, ask: Ask) -> pa.Table | list[dict]:
    """The rows a figure of the gallery is drawn from."""
    return own_language(ask) if item.name == "steering_transfer" else ask(f"from {item.view}")


def drawn(figure: Figure, axis: str = "y") -> list[float]:
    """All numbers of all lines and marks of a figure, along one axis."""
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    numbers = [float(value) for line in lines for value in np.asarray(line.get_ydata() if axis == "y" else line.get_xdata(), dtype=float)]
    return [value for value in numbers if not math.isnan(value)]


def holds_all(found: list[float], wanted: list[float | None]) -> bool:
    """Whether every known number of `wanted` was drawn."""
    return all(any(math.isclose(value, number, abs_tol=1e-12) for value in found) for number in wanted if number is not None)


@pytest.mark.parametrize("item", GALLERY, ids=lambda item: item.name)
def test_a_figure_without_rows_is_an_error_with_a_way_out_and_never_an_empty_picture(item: GalleryFigure, skewed: Ask) -> None:
    with pytest.raises(InputError, match=r"no row to draw; run the stage"):
        item.draw([])
    with pytest.raises(InputError, match=r"no row to draw; run the stage"):
        item.draw(skewed(f"from {item.view} limit 0"))


@pytest.mark.parametrize("item", GALLERY, ids=lambda item: item.name)
def test_a_table_without_a_needed_column_names_the_column_and_those_present(item: GalleryFigure) -> None:
    with pytest.raises(InputError, match=r"has no column .*; it has colour"):
        item.draw([{"colour": "red"}])


@pytest.mark.parametrize(
    "item", [BY_NAME[name] for name in ("profession_skew", "outcomes", "cross_lingual", "steering_curves", "sae_quality")], ids=lambda i: i.name
)
def test_a_figure_whose_every_number_is_missing_is_refused(item: GalleryFigure, skewed: Ask) -> None:
    columns = {"p_female", "share", "value", "fvu"}
    rows = [{key: None if key in columns else value for key, value in row.items()} for row in skewed(f"from {item.view}").to_pylist()]
    with pytest.raises(InputError, match="is missing"):
        item.draw(rows)


@pytest.mark.parametrize(
    ("name", "columns", "axis"),
    [
        ("profession_skew", ("p_female", "low", "high", "planted"), "x"),
        ("plant_recovery", ("recovered", "low", "high"), "y"),
        ("amplification", ("skew", "low", "high", "added"), "y"),
        ("layer_emergence", ("value",), "y"),
        ("cross_lingual", ("value", "floor", "ceiling"), "y"),
        ("steering_curves", ("value",), "y"),
        ("steering_transfer", ("value",), "y"),
        ("steering_frontier", ("spread_left", "spread_low", "spread_high"), "y"),
        ("sae_quality", ("fvu", "l0", "dead_share"), "y"),
        ("dictionary_stability", ("mean_cosine", "mean_correlation", "null_cosine"), "x"),
        ("training_curves", ("fvu", "dead_share"), "y"),
    ],
)
def test_a_figure_draws_every_number_of_its_csv(name: str, columns: tuple[str, ...], axis: str, skewed: Ask) -> None:
    item = BY_NAME[name]
    table = table_of(item, skewed)
    found = drawn(item.draw(table), axis)
    # The band of the random sets is a rectangle, not a line.
    kept = [row for row in item.keep(table) if row.get("arm") != "A6"]
    assert all(holds_all(found, [row[column] for row in kept]) for column in columns)


def test_the_bars_of_the_outcomes_are_the_shares(skewed: Ask) -> None:
    item = BY_NAME["outcomes"]
    table = skewed("from outcomes")
    widths = [bar.get_width() for bar in item.draw(table).axes[0].patches]
    assert holds_all(widths, [row["share"] for row in item.keep(table)])
    assert len(widths) == len(item.keep(table))


def test_the_heat_map_holds_the_effects_and_its_cells_the_latents(skewed: Ask) -> None:
    item = BY_NAME["feature_heatmap"]
    table = skewed("from latent_ranking")
    figure = item.draw(table)
    cells = [float(value) for axes in figure.axes for image in axes.get_images() for value in np.ma.getdata(image.get_array()).ravel()]
    assert holds_all(cells, [row["effect"] for row in item.keep(table)])
    written = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {str(row["latent"]) for row in item.keep(table)} == written


def test_the_histogram_counts_every_random_set_and_marks_the_arm(skewed: Ask) -> None:
    item = BY_NAME["random_null"]
    table = skewed("from random_null_sets")
    figure = item.draw(table)
    assert sum(bar.get_height() for axes in figure.axes for bar in axes.patches) == len(item.keep(table))
    assert holds_all(drawn(figure, "x"), [row["arm_value"] for row in item.keep(table)])


def test_a_missing_value_is_a_hole_in_the_line_and_is_said_with_its_reason(skewed: Ask) -> None:
    figure = BY_NAME["cross_lingual"].draw(skewed("from cross_lingual"))
    line = next(line for axes in figure.axes for line in axes.get_lines() if line.get_gid() == "latent_rank_correlation/value")
    assert math.isnan(float(line.get_ydata()[0])) and not math.isnan(float(line.get_ydata()[1]))
    said = " ".join(text.get_text().replace("\n", " ") for text in figure.texts)
    assert "Missing: latent rank correlation/0 (no latent is alive in both languages)" in said


@pytest.mark.parametrize("item", [BY_NAME[name] for name in ("plant_recovery", "steering_frontier", "matching_balance")], ids=lambda item: item.name)
def test_every_figure_is_written_whole_with_the_csv_of_what_it_shows(item: GalleryFigure, skewed: Ask, tmp_path: Path) -> None:
    table = table_of(item, skewed)
    kept = item.keep(table)
    saved = save_figure(item.draw(table), kept, tmp_path, item.name)
    assert {path.name for path in tmp_path.iterdir()} == {f"{item.name}.svg", f"{item.name}.png", f"{item.name}.csv"}
    with saved.csv.open(encoding="utf-8", newline="") as lines:
        back = list(csv.DictReader(lines))
    assert back == [{key: "" if value is None else str(value) for key, value in row.items()} for row in kept]
    assert saved.n_points == len(kept)


def test_floats_come_back_from_the_csv_with_all_their_digits() -> None:
    value = 0.1 + 0.2
    assert float(table_csv([{"a": value}]).splitlines()[1]) == value


@pytest.mark.parametrize(
    "name",
    [
        *("profession_skew", "outcomes", "layer_emergence", "steering_curves", "steering_frontier", "sae_quality", "cross_lingual"),
        *("language_profile", "latent_language", "latent_matching", "claim_ladder", "word_latents", "latent_graph", "causal_pairs"),
    ],
)
def test_no_text_of_a_figure_lies_over_another(name: str, skewed: Ask) -> None:
    item = BY_NAME[name]
    figure = item.draw(table_of(item, skewed))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *shown_ticks(axes.xaxis), *shown_ticks(axes.yaxis)]
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        texts += legend.get_texts() if legend else []
    boxes = [(text.get_text(), text.get_window_extent(renderer).shrunk(0.96, 0.9)) for text in texts if text.get_text() and text.get_visible()]
    clashes = [(a, b) for place, (a, one) in enumerate(boxes) for b, two in boxes[place + 1 :] if one.overlaps(two)]
    assert clashes == []


def shown_ticks(axis: Axis) -> list[Text]:
    """The tick labels that are really drawn: switched on, and inside the axis."""
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if tick.label1.get_visible() and low <= tick.get_loc() <= high]


def test_a_figure_is_the_same_bytes_twice_and_leaves_the_callers_settings_alone(skewed: Ask) -> None:
    before = dict(matplotlib.rcParams)
    item = BY_NAME["profession_skew"]
    table = skewed("from profession_skew")
    assert figure_svg(item.draw(table), item.name) == figure_svg(item.draw(table), item.name)
    assert dict(matplotlib.rcParams) == before


def test_professions_stand_in_the_order_of_their_share_with_both_names(skewed: Ask) -> None:
    figure = BY_NAME["profession_skew"].draw(skewed("from profession_skew"))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[-1].startswith("teacher") and "معلمة / معلم" in labels[-1]
    assert len(labels) == 16


def test_only_the_most_skewed_professions_are_drawn_when_there_are_many_and_the_figure_says_so(skewed: Ask) -> None:
    from saebias.plots.professions import draw_profession_skew

    figure = draw_profession_skew(skewed("from profession_skew"), top=5)
    assert len(figure.axes[0].get_yticklabels()) == 5
    assert "The 5 most skewed of 16 professions." in " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_a_folder_that_cannot_be_written_is_one_clear_line(skewed: Ask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    figure = BY_NAME["plant_recovery"].draw(skewed("from plant_recovery"))
    with pytest.raises(StoreError, match="cannot be written"):
        save_figure(figure, [{"a": 1}], tmp_path / "file", "plant_recovery")


def test_thinning_keeps_the_same_samples_in_every_layer_and_is_repeatable(skewed: Ask) -> None:
    rows = skewed("from gender_points").to_pylist()
    once, again = thinned(rows, 10, seed=3), thinned(rows[::-1], 10, seed=3)
    key = lambda row: (row["layer"], row["language"], row["image_shows"], row["sample_id"])  # noqa: E731
    assert sorted(map(key, once)) == sorted(map(key, again))
    layers = {row["layer"] for row in once}
    of = {layer: {row["sample_id"] for row in once if row["layer"] == layer} for layer in layers}
    assert len({frozenset(names) for names in of.values()}) == 1


def test_the_interactive_figure_shows_one_layer_at_a_time(skewed: Ask) -> None:
    import json

    figure = json.loads(interactive_gender_direction(skewed("from gender_points"), per_group=5))
    visible = [trace for trace in figure["data"] if trace["visible"]]
    assert len(visible) == 6 and len(figure["data"]) == 18
    assert [button["label"] for button in figure["layout"]["updatemenus"][0]["buttons"]] == ["layer 1", "layer 5", "layer 7"]


def test_characters_that_the_font_lacks_are_written_as_code_points():
    assert drawable("woman طباخة é") == "woman طباخة é"
    assert drawable("a\u6600b") == "aU+6600b"
