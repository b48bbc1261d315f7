"""Laws of the report: worded from the intervals, both scripts in their direction, nothing fetched, nothing unescaped."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pytest
from planted_report import planted_report, png, scene, with_summary

from saebias.errors import InputError
from saebias.plots.report.data import ReportData, SceneCaption
from saebias.plots.report.finding import ABSENT, SHOWN, UNKNOWN, difference
from saebias.plots.report.findings import can_it_be_removed, is_it_biased, verdicts
from saebias.plots.report.located import where_is_it
from saebias.plots.report.pictures import image_uri, inline_svg, thumbnail
from saebias.plots.report.render import render_report

Ask = Callable[[str], pa.Table]
FIGURES = ("profession_skew", "layer_emergence")


class Page(HTMLParser):
    """What a page asks for, which ids it has, and what its Arabic elements say."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.arabic: list[tuple[dict[str, str | None], str]] = []
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        self.asked += [(tag, name, value) for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action") and value]
        if tag not in ("meta", "img", "br", "link", "line", "circle"):
            self.open.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if re.search("[\u0600-\u06ff]", data) and self.open and self.open[-1][0] not in ("script", "style"):
            self.arabic.append(({name: value for _, attrs in self.open for name, value in attrs.items()}, data))


@pytest.fixture(scope="module")
def data(skewed: Ask) -> ReportData:
    return planted_report(skewed, FIGURES)


@pytest.fixture(scope="module")
def html(data: ReportData) -> str:
    return render_report(data)


def test_the_report_fetches_nothing(html: str) -> None:
    page = Page(html)
    fetched = [(tag, value) for tag, _, value in page.asked if tag != "a" and not value.startswith(("data:", "#"))]
    assert fetched == []
    assert not re.search(r"@import|url\((?!#|data:)", html[: html.index("<body>")])
    assert "default-src 'none'" in html


def test_links_that_leave_the_file_are_licences_only(html: str) -> None:
    outside = {value for tag, _, value in Page(html).asked if tag == "a" and value.startswith("http")}
    assert all("license" in value for value in outside)


def test_every_arabic_text_stands_in_a_right_to_left_element(html: str) -> None:
    page = Page(html)
    captions = [(attrs, text) for attrs, text in page.arabic if "غيتار" in text]
    assert captions and all(attrs.get("dir") == "rtl" and attrs.get("lang") == "ar" for attrs, _ in captions)
    names = [attrs for attrs, text in page.arabic if "معلمة / معلم" in text]
    assert names and all(attrs.get("dir") == "rtl" for attrs in names)


def test_words_that_an_intervention_changed_are_marked_and_no_others(html: str) -> None:
    assert "<mark>طباخة تقف</mark> بجانب غيتار" in html
    assert html.count("<mark>") == 1


def test_ids_are_unique_and_every_reference_inside_a_figure_has_its_target(html: str) -> None:
    page = Page(html)
    inside = {value[1:] for tag, _, value in page.asked if value.startswith("#")}
    assert inside <= set(page.ids)
    anchors = [name for name in page.ids if "-" not in name]
    assert len(anchors) == len(set(anchors))


def test_text_from_data_is_escaped(html: str) -> None:
    assert "an alarm &lt;b&gt;in markup&lt;/b&gt;" in html


def test_the_plotting_program_is_inside_once_and_whole(html: str, data: ReportData) -> None:
    packed = re.findall(r'id="plotly-packed">([^<]*)<', html)
    assert len(packed) == 1
    assert b"Plotly" in gzip.decompress(base64.b64decode(packed[0]))
    assert "plotly-packed" not in render_report(replace(data, interactive=()))


def test_the_csv_behind_each_figure_can_be_taken_out_again(html: str, data: ReportData) -> None:
    links = dict(re.findall(r'download="([a-z_]+)\.csv" href="data:text/csv;charset=utf-8;base64,([^"]*)"', html))
    assert {figure.name: figure.csv for figure in data.figures} == {name: base64.b64decode(text).decode("utf-8") for name, text in links.items()}


def test_interactive_data_are_the_json_they_were(html: str, data: ReportData) -> None:
    (found,) = re.findall(r'<script type="application/json" id="turn-json">(.*?)</script>', html, flags=re.DOTALL)
    assert json.loads(found) == json.loads(data.interactive[0].json)


def test_the_report_stays_small(html: str) -> None:
    assert len(html.encode("utf-8")) < 8e6


def test_pictures_that_need_attribution_carry_it_and_others_do_not(html: str, data: ReportData) -> None:
    assert all(word in html for word in ("Twemoji", "OpenMoji", "CC BY 4.0", "CC BY-SA 4.0", "Unicode-3.0"))
    assert "Twemoji" not in render_report(replace(data, emoji_corpus=False, figures=(), interactive=()))


def test_a_planted_skew_is_told_with_its_interval(data: ReportData) -> None:
    first = is_it_biased(data)[0]
    assert first.verdict == SHOWN
    assert re.fullmatch(r"English: stereotyped\. .* standard deviation of 0\.\d{3} \(95 % interval 0\.\d{3} to 0\.\d{3}\)\.", first.text)
    assert verdicts(data)["biased"].startswith("Stereotype in English and Arabic; default gender in English and Arabic")


def test_a_null_catalogue_shows_no_stereotype_and_nothing_to_remove(null: Ask) -> None:
    found = planted_report(null)
    biased = is_it_biased(found)
    assert [finding.verdict for finding in biased[:5]] == [ABSENT] * 5
    assert "no stereotype shown" in biased[0].text and "covers zero" in biased[0].text
    assert verdicts(found)["biased"].startswith("No stereotype shown; no default gender shown")
    assert all(finding.text.split(": ")[1].startswith("nothing to remove") for finding in can_it_be_removed(found))
    assert "no stereotype shown" in render_report(found)


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.001, 0.2, SHOWN), (0.0, 0.2, ABSENT), (-0.1, 0.2, ABSENT), (None, None, UNKNOWN)])
def test_the_wording_follows_the_interval_and_not_the_value(data: ReportData, low: float | None, high: float | None, verdict: str) -> None:
    assert is_it_biased(with_summary(data, "stereotype_spread", "en", value=0.1, low=low, high=high))[0].verdict == verdict


def test_a_missing_number_is_said_with_its_reason_and_never_a_zero(data: ReportData) -> None:
    changed = with_summary(data, "stereotype_spread", "ar", value=None, low=None, high=None, note="one context only")
    finding = is_it_biased(changed)[1]
    assert finding.verdict == UNKNOWN and "was not measured: one context only" in finding.text
    assert "one context only" in render_report(changed)


def test_the_size_verdict_of_the_analysis_is_told(data: ReportData) -> None:
    changed = with_summary(data, "stereotype_spread", "en", note="negligible (smallest that matters: 0.05); 3 images left out")
    assert is_it_biased(changed)[0].text.endswith("; negligible (smallest that matters: 0.05).")


def test_a_probe_that_does_not_beat_its_control_carries_nothing(data: ReportData) -> None:
    at_chance = tuple(row | {"value": 0.53, "low": 0.48, "high": 0.58} if row["series"] == "probe" else row for row in data.layers)
    findings = where_is_it(replace(data, layers=at_chance))
    assert findings[0].verdict == ABSENT and "no layer is shown to carry gender" in findings[0].text


def test_one_early_layer_that_happens_to_beat_its_control_is_no_emergence(data: ReportData) -> None:
    missed = tuple(
        row | {"value": 0.53, "low": 0.48, "high": 0.58} if row["series"] == "probe" and row["layer"] == 4 and row["language"] == "en" else row
        for row in data.layers
    )
    assert "beats its control from layer 5 on" in where_is_it(replace(data, layers=missed))[0].text


def test_what_the_pixels_alone_give_stands_beside_the_probe(data: ReportData) -> None:
    assert "the pixels alone give 0.710" in verdicts(data)["located"]
    assert re.search(r"the pixels alone give 0\.710, less than every layer from \d on", where_is_it(data)[0].text)
    unbeaten = tuple(row | {"balanced_accuracy": 0.999, "low": 0.998, "high": 1.0} for row in data.baselines)
    assert "which no layer is shown to exceed" in where_is_it(replace(data, baselines=unbeaten))[0].text
    assert "pixels" not in verdicts(replace(data, baselines=()))["located"]


def test_patching_tells_from_which_layer_on_the_deciding_token_carries_the_gender(data: ReportData) -> None:
    told = where_is_it(data)[-1]
    assert told.verdict == SHOWN and "from layer 4 on the deciding token carries" in told.text
    assert "woman into man: 10.000 (95 % interval 9.700 to 10.300)" in told.text and "man into woman: 10.000" in told.text
    assert len(where_is_it(replace(data, patching=()))) == len(where_is_it(data)) - 2
    # A larger number whose interval covers none, and one way alone, are not enough.
    unsure = tuple(row | {"over_image_low": -1.0} if row["token_kind"] == "decision" else row for row in data.patching)
    assert where_is_it(replace(data, patching=unsure))[-1].verdict == ABSENT
    one_way = tuple(old if old["direction"] == "woman into man" else new for old, new in zip(data.patching, unsure, strict=True))
    assert where_is_it(replace(data, patching=one_way))[-1].verdict == ABSENT


def test_a_layer_is_called_better_only_where_its_interval_says_so(data: ReportData) -> None:
    assert "are shown to differ" in where_is_it(data)[0].text or "is shown to differ" in where_is_it(data)[0].text
    last = max(row["layer"] for row in data.layers)
    apart = tuple(
        row | ({"value": 0.99, "low": 0.985, "high": 0.995} if row["layer"] == last else {"value": 0.9, "low": 0.89, "high": 0.91})
        if row["panel"] == "probe" and row["series"] == "probe"
        else row
        for row in data.layers
    )
    assert f"in layer {last}, better than in every other layer" in where_is_it(replace(data, layers=apart))[0].text


def test_the_difference_of_two_numbers_is_wider_than_either_interval_and_unknown_without_one() -> None:
    one, other = {"value": 0.9, "low": 0.85, "high": 0.95}, {"value": 0.8, "low": 0.76, "high": 0.84}
    found = difference(one, other)
    assert found is not None and found == pytest.approx((0.1, 0.1 - (0.05**2 + 0.04**2) ** 0.5, 0.1 + (0.05**2 + 0.04**2) ** 0.5))
    assert difference(one, other | {"low": None}) is None


def test_without_an_interval_nothing_is_concluded(data: ReportData) -> None:
    bare = replace(data, summary=tuple(row | {"low": None, "high": None} for row in data.summary))
    assert {finding.verdict for finding in is_it_biased(bare) if "captions" not in finding.text} == {UNKNOWN}
    nothing = tuple(row | {"spread_low": None, "spread_high": None} for row in data.steering)
    assert all(finding.verdict == UNKNOWN for finding in can_it_be_removed(replace(data, steering=nothing)))


def test_a_stereotype_that_all_pictures_show_is_not_called_absent_where_those_of_the_interventions_are_too_few(data: ReportData) -> None:
    wide = {"spread_low": 0.0, "spread_high": 0.4}
    few = replace(data, steering=tuple(row | wide if row["arm"] == "A0" and row["language"] == "en" else row for row in data.steering))
    finding = can_it_be_removed(few)[0]
    assert finding.verdict == UNKNOWN and finding.text.startswith("English: not decided; the stereotype that all pictures together show")
    assert "steer.images" in finding.text and verdicts(few)["removable"].startswith("English: not decided; Arabic: ")
    # Where no picture set shows one, there is nothing to remove.
    unshown = can_it_be_removed(with_summary(few, "stereotype_spread", "en", value=0.02, low=0.0, high=0.1))[0]
    assert unshown.verdict == ABSENT and unshown.text.startswith("English: nothing to remove")


def test_the_intervention_is_chosen_on_select_and_told_on_report(data: ReportData) -> None:
    # On the report split another arm looks better; choosing it there would be choosing on the reported images.
    tempting = tuple(
        row | {"spread_left": 0.0, "spread_low": -0.01, "spread_high": 0.01} if row["split"] == "report" and row["arm"] == "A8" else row
        for row in data.steering
    )
    assert "A3 ablate latents" in can_it_be_removed(replace(data, steering=tempting))[0].text


def test_an_intervention_beyond_the_harm_budget_is_not_recommended(data: ReportData) -> None:
    findings = can_it_be_removed(replace(data, harm_budget=-1.0))
    assert all(finding.verdict == ABSENT and "no intervention kept within the budgets" in finding.text for finding in findings)


def test_an_effect_that_random_latents_have_too_is_no_removal(data: ReportData) -> None:
    like_random = tuple(row | {"spread_p": 0.4} for row in data.steering)
    assert all("not shown to be removable" in finding.text for finding in can_it_be_removed(replace(data, steering=like_random)))


@pytest.mark.parametrize(("low", "verdict"), [(0.01, SHOWN), (-0.01, ABSENT)])
def test_the_paired_share_removed_decides_where_it_was_measured(data: ReportData, low: float, verdict: str) -> None:
    # The intervals of before and after overlap here: only the paired share can tell.
    measured = {"debias": 0.2, "debias_low": low, "debias_high": 0.4, "spread_left": 0.2, "spread_low": 0.1, "spread_high": 0.3}
    paired = tuple(row | measured if row["arm"] == "A3" else row for row in data.steering)
    finding = can_it_be_removed(replace(data, steering=paired))[0]
    assert finding.verdict == verdict and "share removed 0.200" in finding.text


def test_what_was_left_out_and_stale_runs_are_told(html: str, data: ReportData) -> None:
    assert "the caption is not in Arabic script" in html
    stale = ({"stage": "steer", "made_from_stage": "train", "made_from": "train-1", "shown_run": "train-2"},)
    assert "made from another train run (train-1)" in render_report(replace(data, stale=stale))


def test_an_empty_report_is_refused() -> None:
    empty = ReportData("t", "m", ("en",), "f", "c", {}, False, (), (), (), (), (), (), (), (), (), 0.02)
    with pytest.raises(InputError, match="no number and no figure"):
        render_report(empty)


def test_a_caption_in_an_unknown_role_and_a_picture_in_an_unknown_format_are_refused(data: ReportData) -> None:
    wrong = replace(scene(), captions=(SceneCaption("en", "guess", "a cook"),))
    with pytest.raises(InputError, match="role 'guess'"):
        render_report(replace(data, scenes=(wrong,)))
    with pytest.raises(InputError, match="neither PNG nor JPEG"):
        image_uri(b"GIF89a", "s1")


def test_a_thumbnail_is_a_small_png_and_a_broken_picture_is_named(tmp_path) -> None:
    (tmp_path / "good.png").write_bytes(png())
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert image_uri(thumbnail(tmp_path / "good.png"), "s1").startswith("data:image/png")
    with pytest.raises(InputError, match=r"bad\.png"):
        thumbnail(tmp_path / "bad.png")


def test_a_figure_inside_the_page_takes_its_colours_from_the_page(data: ReportData) -> None:
    inside = inline_svg(data.figures[0].svg, "f", 'a "title"')
    assert "var(--ink)" in inside and "#1b2430" not in inside
    assert 'aria-label="a &quot;title&quot;"' in inside
    assert "<metadata" not in inside and "<!DOCTYPE" not in inside


def test_a_model_that_cannot_be_asked_about_pictures_is_not_called_unbiased(data: ReportData) -> None:
    why = "saebias:gemma3-270m reads text only"
    silent = replace(data, unasked=why, reads_caption=True, summary=(), professions=(), amplification=(), steering=())
    told = verdicts(silent)
    assert told["biased"] == told["removable"] == "Not measured."
    assert "no evidence about pictures" in told["located"]
    assert [finding.verdict for finding in (*is_it_biased(silent), *can_it_be_removed(silent))] == [UNKNOWN, UNKNOWN]
    assert all("images of" not in finding.text for finding in where_is_it(silent))
    assert render_report(silent).count(why) >= 4


def test_without_any_language_nothing_is_said_to_be_absent(data: ReportData) -> None:
    nothing = replace(data, languages=(), summary=())
    assert verdicts(nothing)["biased"] == "Not measured."
