"""Counted labels: sums per image, intervals, what was counted, and before against after."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saebias.corpus.label_files import CaptionColumns, caption_rows
from saebias.corpus.label_tally import Tallier, Tally, compare, corrected_share, summary_rows
from saebias.corpus.labels import label_caption
from saebias.corpus.prevalence import LabellerQuality
from saebias.errors import InputError


def tally(captions: list[tuple[str, str]], language: str = "en") -> Tally:
    tallier = Tallier()
    for image, text in captions:
        tallier.add(image, text, label_caption(text, language))
    return tallier.tally()


def test_shares_are_captions_of_a_label_over_captions() -> None:
    rows = {row.measure: row for row in summary_rows(tally([("a", "a woman"), ("a", "a man"), ("b", "a dog"), ("c", "she runs")]), seed=1)}
    assert (rows["share F"].hits, rows["share F"].of, rows["share F"].value) == (2, 4, 0.5)
    assert rows["F of F or M"].value == pytest.approx(2 / 3)
    assert rows["share F"].low <= 0.5 <= rows["share F"].high
    assert rows["marks F per 100 words"].value == pytest.approx(100 * 2 / 8)


def test_captions_of_one_image_are_one_unit() -> None:
    """Five equal captions of an image carry no more information than one: the interval does not shrink."""
    images = [(str(image), "a woman" if image % 3 else "a man") for image in range(60)]
    once = summary_rows(tally(images), seed=3)[0]
    five = summary_rows(tally(images * 5), seed=3)[0]
    assert five.of == 5 * once.of
    assert five.high - five.low == pytest.approx(once.high - once.low)


def test_a_rate_without_words_is_not_a_number() -> None:
    rows = {row.measure: row for row in summary_rows(tally([("a", "")]), seed=0)}
    assert math.isnan(rows["marks F per 100 words"].value)


def test_the_audit_lists_what_was_counted_and_what_was_not() -> None:
    forms = tally([("a", "a woman"), ("b", "A WOMAN"), ("c", "a cat licking her paw")]).forms
    assert (forms[0].form, forms[0].gender, forms[0].counted, forms[0].captions) == ("woman", "F", True, 2)
    assert any(form.form == "her" and not form.counted and "animal" in form.rule for form in forms)


def test_a_planted_change_is_found_and_pairs_make_it_sharp() -> None:
    before = [(str(image), f"a {'woman' if image % 2 else 'man'} with a dog") for image in range(200)]
    after = [(image, text.replace("woman", "person") if int(image) < 80 else text) for image, text in before]
    found = {row.measure: row for row in compare(tally(before), tally(after), seed=4).rows}
    assert found["share F"].value == pytest.approx(-0.2)
    assert found["share F"].high < 0
    assert found["share M"].value == found["share M"].low == found["share M"].high == 0.0


def test_identical_captions_raise_an_alarm() -> None:
    captions = [(str(image), "a woman") for image in range(5)]
    assert any("identical" in alarm for alarm in compare(tally(captions), tally(captions), seed=0).alarms)


def test_shorter_captions_raise_an_alarm() -> None:
    before = [(str(image), "a woman with a small brown dog") for image in range(5)]
    after = [(str(image), "a woman with a dog") for image in range(5)]
    assert any("length changed by -29 %" in alarm for alarm in compare(tally(before), tally(after), seed=0).alarms)


def test_files_without_a_common_image_are_refused() -> None:
    with pytest.raises(InputError, match="share no image id"):
        compare(tally([("a", "a woman")]), tally([("b", "a man")]), seed=0)


def test_the_corrected_share_comes_from_the_same_counts() -> None:
    counted = tally([(str(image), "a woman" if image < 30 else "a chair") for image in range(100)])
    found = corrected_share(counted, "F", LabellerQuality(99, 100, 99, 100), seed=0)
    assert found.observed == pytest.approx(0.3)
    assert found.low < found.corrected < found.high
    with pytest.raises(InputError, match="'Q' is no label"):
        corrected_share(counted, "Q", LabellerQuality(99, 100, 99, 100), seed=0)


ROWS = [("a", "en", "a woman"), ("b", "ar", "امرأة"), ("c", "en", "رجل"), ("d", "fr", "une femme")]


def write(folder: Path, kind: str) -> Path:
    path = folder / f"captions.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"image": [r[0] for r in ROWS], "lang": [r[1] for r in ROWS], "text": [r[2] for r in ROWS]}), path)
    elif kind == "jsonl":
        path.write_text("\n".join(f'{{"image": "{i}", "lang": "{lang}", "text": "{t}"}}' for i, lang, t in ROWS), encoding="utf-8")
    else:
        mark = "," if kind == "csv" else "\t"
        path.write_text("\n".join([mark.join(("image", "lang", "text")), *(mark.join(row) for row in ROWS)]), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_rows_and_names_what_it_sets_aside(tmp_path: Path, kind: str) -> None:
    rows = list(caption_rows(write(tmp_path, kind), CaptionColumns("text", "lang", "image")))
    assert [(row.image_id, row.text) for row in rows if row.problem is None] == [("a", "a woman"), ("b", "امرأة")]
    assert [row.problem for row in rows if row.problem] == ["the caption is written in 'ar', not in 'en'", "language 'fr' is neither en nor ar"]


def test_plain_lines_are_captions_and_broken_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_bytes(b"a woman\n" + b"\xff\xfe\n" + b"\na man\r\n")
    rows = list(caption_rows(path, CaptionColumns(), "en"))
    assert [row.text for row in rows] == ["a woman", "", "", "a man"]
    assert [row.problem for row in rows] == [None, "not UTF-8 at byte 0", None, None]


def test_a_missing_column_or_language_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'txt'"):
        list(caption_rows(write(tmp_path, "csv"), CaptionColumns("txt", "lang")))
    with pytest.raises(InputError, match=r"--language en\|ar"):
        list(caption_rows(write(tmp_path, "csv"), CaptionColumns("text")))


def test_a_million_rows_would_need_the_memory_of_their_images_only() -> None:
    tallier = Tallier()
    for row in range(2_000):
        tallier.add(str(row % 10), "a woman", label_caption("a woman", "en"))
    counted = tallier.tally()
    assert len(counted.clusters) == 10
    assert int(np.sum(counted.column("captions"))) == 2_000
