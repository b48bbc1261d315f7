"""A table of pictures and captions is read the same in every format, and nothing wrong with it passes in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saebias.corpus.column_map import ColumnMap
from saebias.corpus.tables import iter_table, read_table
from saebias.errors import InputError

FORMATS = ("csv", "tsv", "jsonl", "parquet")


def problem(path, columns=None):
    """The one problem of a table whose other rows are good."""
    read = read_table(path, columns)
    assert len(read.problems) == 1
    return read.problems[0]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_rows(table, good_row, suffix, tmp_path):
    rows = read_table(table([good_row(0), good_row(1, visual_gender="male", context=" chef ")], suffix)).rows
    assert [row.sample_id for row in rows] == ["s0", "s1"]
    assert rows[0].image == str(tmp_path / "pictures/0.png")
    assert rows[0].captions_en == ("a cook with 2 balls",)
    assert rows[0].captions_ar == ("طباخة مع كرات",)
    assert [(row.context, row.visual_gender) for row in rows] == [("cook", "F"), ("chef", "M")]
    assert [row.row_number for row in rows] == [1, 2]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("changes", "column", "reason"),
    [
        ({"caption_en": ""}, "caption_en", "no English caption"),
        ({"caption_ar": " \u200f "}, "caption_ar", "no Arabic caption"),
        ({"caption_ar": "a cook"}, "caption_ar", "Arabic caption without an Arabic letter"),
        ({"caption_en": "طباخة مع كرة red"}, "caption_en", "English caption mostly in Arabic letters"),
        ({"caption_en": "123 🙂"}, "caption_en", "English caption without a letter"),
        ({"caption_en": "['a cook', 'a chef']"}, "caption_en", "looks like a list of captions"),
        ({"caption_en": "a \0 cook"}, "caption_en", "a NUL character"),
        ({"image": ""}, "image", "no picture path"),
        ({"image": "https://example.org/a.png"}, "image", "a web address"),
        ({"sample_id": ""}, "sample_id", "no sample id"),
        ({"visual_gender": "x"}, "visual_gender", "not a visual gender"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason(table, good_row, suffix, changes, column, reason):
    found = problem(table([good_row(0), good_row(1, **changes), good_row(2)], suffix))
    assert (found.row_number, found.column) == (2, column)
    assert reason in found.reason


def test_good_and_bad_rows_together_are_all_rows(table, good_row):
    rows = [good_row(index, caption_ar="" if index % 3 == 0 else "طباخة") for index in range(30)]
    read = read_table(table(rows))
    assert sorted([row.row_number for row in read.rows] + [item.row_number for item in read.problems]) == list(range(1, 31))
    assert len(read.problems) == 10


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_column_names_the_nearest_and_those_present(table, good_row, suffix):
    path = table([good_row()], suffix)
    with pytest.raises(InputError, match=r"no column 'captoin_en' \(for caption_en\).*did you mean 'caption_en'\? present: 'sample_id', 'image'"):
        read_table(path, ColumnMap(caption_en="captoin_en"))


def test_an_optional_column_that_is_named_must_exist(table, good_row):
    with pytest.raises(InputError, match="no column 'job'"):
        read_table(table([good_row()]), ColumnMap(context="job"))


def test_a_missing_table_names_those_in_the_folder(table, good_row, tmp_path):
    table([good_row()])
    with pytest.raises(InputError, match=r"no table 'caption\.csv'.*did you mean 'captions\.csv'\? present: 'captions\.csv'"):
        read_table(tmp_path / "caption.csv")
    with pytest.raises(InputError, match="no folder"):
        read_table(tmp_path / "nowhere" / "captions.csv")


def test_a_file_that_is_no_table_says_which_are(tmp_path):
    other = tmp_path / "captions.xlsx"
    other.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"ends in '\.xlsx'; tables end in \.csv, \.tsv"):
        read_table(other)
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path)


@pytest.mark.parametrize("suffix", ("csv", "tsv", "jsonl"))
def test_an_empty_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"captions.{suffix}"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty file"):
        read_table(path)


def test_a_table_with_columns_and_no_rows_is_refused(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("image,caption_en,caption_ar\n\n\n")
    with pytest.raises(InputError, match="has no rows"):
        read_table(path)
    schema = pa.schema([(name, pa.string()) for name in ("image", "caption_en", "caption_ar")])
    pq.write_table(schema.empty_table(), tmp_path / "captions.parquet")
    with pytest.raises(InputError, match="has no rows"):
        read_table(tmp_path / "captions.parquet")


def test_repeated_sample_ids_are_named_with_their_rows(table, good_row):
    rows = [good_row(index, sample_id=f"s{index % 5}") for index in range(10)]
    with pytest.raises(InputError, match=r"'s0' \(rows 1 and 6\), 's1' \(rows 2 and 7\), 's2' \(rows 3 and 8\) and 2 more; make column 'sample_id' unique"):
        read_table(table(rows))


def test_ids_that_are_numbers_are_texts(table, good_row):
    rows = [{**good_row(index), "sample_id": index} for index in range(3)]
    for suffix in FORMATS:
        assert [row.sample_id for row in read_table(table(rows, suffix)).rows] == ["0", "1", "2"]


def test_made_ids_follow_the_row_when_rows_move(table, good_row):
    rows = [{key: value for key, value in good_row(index).items() if key != "sample_id"} for index in range(6)]
    before = {row.image: row.sample_id for row in read_table(table(rows)).rows}
    after = {row.image: row.sample_id for row in read_table(table(rows[::-1])).rows}
    assert before == after
    assert len(set(before.values())) == 6


def test_the_same_row_twice_without_ids_is_set_aside(table, good_row):
    row = {key: value for key, value in good_row().items() if key != "sample_id"}
    assert problem(table([row, row])).reason == "same picture and captions as row 1"


def test_a_table_without_one_usable_row_says_why(table, good_row):
    with pytest.raises(InputError, match=r"none of the 4 rows .* row 1, column 'caption_ar': Arabic caption without an Arabic letter"):
        read_table(table([good_row(index, caption_ar="cook") for index in range(4)]))


def test_bytes_that_are_not_utf8_set_one_row_aside(table, good_row, tmp_path):
    for suffix in ("csv", "jsonl"):
        path = table([good_row(index) for index in range(3)], suffix)
        path.write_bytes(path.read_bytes().replace(b"with 3 balls", b"with \xe9\xff balls"))
        found = problem(path)
        assert (found.row_number, found.column) == (2, "caption_en")
        assert "not UTF-8" in found.reason
        # What is stored of it must itself be storable.
        assert found.value is not None
        found.value.encode()
    arrow = pa.table({name: [good_row(index)[name] for index in range(3)] for name in good_row()})
    captions = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a cook", b"a \xff cook", b"a chef"], pa.binary()).buffers())
    pq.write_table(arrow.set_column(arrow.column_names.index("caption_en"), "caption_en", captions), tmp_path / "broken.parquet")
    assert (problem(tmp_path / "broken.parquet").row_number, problem(tmp_path / "broken.parquet").reason) == (2, "bytes that are not UTF-8")


def test_a_lone_surrogate_in_json_is_set_aside(tmp_path, good_row):
    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps(good_row(0)) + "\n" + json.dumps(good_row(1, caption_en="a \ud800 cook")) + "\n")
    assert "not UTF-8" in problem(path).reason


def test_another_encoding_is_refused_with_the_way_out(tmp_path, table, good_row):
    text = table([good_row()]).read_text(encoding="utf-8")
    path = tmp_path / "other.csv"
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match="save it as UTF-8"):
        read_table(path)
    path.write_bytes(text.encode("cp1256"))
    with pytest.raises(InputError, match=r"column 'caption_ar': bytes that are not UTF-8; save the table as UTF-8"):
        read_table(path)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path, table, good_row):
    for suffix in ("csv", "jsonl"):
        path = table([good_row()], suffix)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert read_table(path).rows[0].sample_id == "s0"


def test_a_row_with_too_few_fields_is_set_aside(table, good_row):
    path = table([good_row(0), good_row(1)])
    path.write_bytes(path.read_bytes() + b"s2,pictures/2.png\r\n")
    assert "has 2 fields where the header has 6" in problem(path).reason


def test_a_quote_that_is_never_closed_is_refused(table, good_row):
    path = table([good_row(0), good_row(1)])
    path.write_bytes(path.read_bytes() + b's2,"pictures/2.png,a cook\r\ns3,x\r\n')
    with pytest.raises(InputError, match="opens a quote on line 4 and never closes it"):
        read_table(path)


def test_a_row_with_text_after_a_quote_costs_that_row_only(table, good_row):
    path = table([good_row(0), good_row(1)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + b's9,"a" b,c,d,e,f\r\n' + lines[2])
    assert "not CSV" in problem(path).reason
    assert problem(path).row_number == 2


def test_captions_may_hold_line_breaks_quotes_and_ten_thousand_words(table, good_row):
    long = " ".join(["word"] * 10_000)
    rows = [good_row(0, caption_en='a "cook",\nand a ball'), good_row(1, caption_en=json.dumps([long] * 5))]
    read = read_table(table(rows)).rows
    assert read[0].captions_en == ('a "cook",\nand a ball',)
    assert read[1].captions_en == (long,) * 5


def test_a_line_that_is_not_json_is_set_aside(table, good_row):
    path = table([good_row(0), good_row(1)], "jsonl")
    path.write_text(path.read_text() + '{"image": \n[1, 2]\n')
    assert [item.row_number for item in read_table(path).problems] == [3, 4]


def test_one_json_list_is_refused_with_the_way_out(tmp_path, good_row):
    path = tmp_path / "captions.json"
    for indent in (None, 2):
        path.write_text(json.dumps([good_row(0), good_row(1)], indent=indent))
        with pytest.raises(InputError, match="write one object per line"):
            read_table(path)


def test_a_damaged_parquet_file_is_refused(table, good_row):
    path = table([good_row()], "parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_table(path)


def test_pictures_embedded_in_a_table_are_refused_with_the_way_out(tmp_path, good_row):
    row = good_row(image={"bytes": b"\x89PNG", "path": "a.png"})
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "captions.parquet")
    with pytest.raises(InputError, match="must be saved as files first"):
        read_table(tmp_path / "captions.parquet")


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("image,caption_en,caption_en,caption_ar\na.png,a,b,ا\n")
    with pytest.raises(InputError, match=r"'caption_en' .* stands 2 times"):
        read_table(path)


def test_another_separator_is_suspected_and_can_be_given(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("image;caption_en;caption_ar\na.png;a cook;طباخ\n")
    with pytest.raises(InputError, match="separated by another character"):
        read_table(path)
    assert read_table(path, delimiter=";").rows[0].captions_en == ("a cook",)


@pytest.mark.parametrize("suffix", ("jsonl", "parquet"))
def test_lists_are_captions(table, good_row, suffix):
    rows = [good_row(0, caption_en=["a cook", "a chef"], caption_ar=["طباخ"]), good_row(1, caption_en=["one"], caption_ar=["طباخ", ""])]
    read = read_table(table(rows, suffix)).rows
    assert read[0].captions_en == ("a cook", "a chef")
    assert [row.n_blank_captions for row in read] == [0, 1]


def test_several_columns_are_captions(table, good_row):
    rows = [{**good_row(0), "en_1": "a cook", "en_2": ""}, {**good_row(1), "en_1": "a cook", "en_2": "a chef"}]
    read = read_table(table(rows), ColumnMap(caption_en=("en_1", "en_2"))).rows
    assert [row.captions_en for row in read] == [("a cook",), ("a cook", "a chef")]
    assert read[0].n_blank_captions == 1


def test_one_bad_caption_of_several_sets_the_row_aside(table, good_row):
    rows = [good_row(0), good_row(1, caption_en='["a cook", "طباخة مع كرة"]')]
    assert problem(table(rows)).value == "طباخة مع كرة"


def test_a_corpus_may_have_one_language(table, good_row):
    rows = [{key: value for key, value in good_row().items() if key != "caption_ar"}]
    with pytest.raises(InputError, match="no column 'caption_ar'"):
        read_table(table(rows))
    assert read_table(table(rows), ColumnMap(caption_ar=None)).rows[0].captions_ar == ()
    with pytest.raises(InputError, match="no caption column"):
        read_table(table(rows), ColumnMap(caption_en=None, caption_ar=None))


def test_coded_genders_are_mapped(table, good_row):
    rows = [good_row(index, visual_gender=str(index)) for index in range(2)]
    read = read_table(table(rows), ColumnMap(visual_gender_values={"0": "M", "1": "F"})).rows
    assert [row.visual_gender for row in read] == ["M", "F"]
    with pytest.raises(InputError, match="maps '0' to 'boy'"):
        read_table(table(rows), ColumnMap(visual_gender_values={"0": "boy"}))


def test_an_empty_gender_or_context_is_unknown_not_wrong(table, good_row):
    row = read_table(table([good_row(visual_gender="", context=" ")])).rows[0]
    assert (row.visual_gender, row.context) == (None, None)


def test_pictures_are_found_from_the_root_that_is_given(table, good_row):
    path = table([good_row(0), good_row(1, image="/abs/1.png")])
    assert [row.image for row in read_table(path, image_root=Path("/data")).rows] == ["/data/pictures/0.png", "/abs/1.png"]


def test_rows_come_one_by_one(table, good_row):
    rows = iter_table(table([good_row(index) for index in range(3)]))
    assert next(rows).sample_id == "s0"


def test_nothing_in_a_data_frame_is_nothing(table, good_row):
    rows = read_table(table([good_row(0, concept=float("nan")), good_row(1, concept=2.0)], "parquet")).rows
    assert [row.concept for row in rows] == [None, "2.0"]
