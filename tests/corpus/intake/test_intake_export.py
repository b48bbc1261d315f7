"""`samples.csv` reads back as what was written, and is there whole or not at all."""

from __future__ import annotations

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.corpus.caption_cells import is_blank, wrong_script
from saebias.corpus.column_map import ColumnMap
from saebias.corpus.export import write_samples_csv
from saebias.corpus.records import SampleRecord
from saebias.corpus.tables import read_table
from saebias.errors import InputError, StoreError

NAMES = ("sample_id", "cluster_id", "context", "visual_gender", "concept", "style", "skin_tone", "object")


def captions(language):
    word = {"en": "cook", "ar": "طباخ"}[language]
    # NUL and lone surrogates are refused on reading.
    texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
    return texts.map(lambda text: f"{text}{word}".strip()).filter(lambda text: not is_blank(text) and wrong_script(text, language) is None)


@settings(max_examples=30, deadline=None)
@given(captions("en"), captions("ar"), st.none() | st.just('a "job", two\r\nlines'), st.sampled_from(["F", "M", "A", None]), st.booleans())
def test_what_is_written_is_read_back(caption_en, caption_ar, context, gender, held_out):
    sample = SampleRecord("s0", "i0", "k0", context, gender, "report", "c", "flat", None, "ball", held_out, caption_en, caption_ar)
    with TemporaryDirectory() as folder:
        path = write_samples_csv(Path(folder) / "samples.csv", [sample], {"i0": Path(folder) / "pictures/0.png"})
        row = read_table(path, ColumnMap(cluster="cluster_id")).rows[0]
        assert row.image == str(Path(folder) / "pictures/0.png")
    assert (row.captions_en, row.captions_ar) == ((caption_en,), (caption_ar,))
    assert [getattr(row, name) for name in NAMES] == [getattr(sample, name) for name in NAMES]


def test_a_caption_that_looks_like_a_list_stays_one_caption(tmp_path):
    sample = SampleRecord("s0", "i0", "k0", None, None, caption_en='["a", "b"]', caption_ar="[طباخ]")
    row = read_table(write_samples_csv(tmp_path / "samples.csv", [sample], {"i0": "/a.png"})).rows[0]
    assert (row.captions_en, row.captions_ar) == (('["a", "b"]',), ("[طباخ]",))


def test_the_file_is_plain_utf8_with_relative_pictures(tmp_path):
    samples = [SampleRecord(f"s{index}", f"i{index}", "k", "cook", "F", caption_en="a cook", caption_ar="طباخة") for index in range(2)]
    path = write_samples_csv(tmp_path / "out" / "samples.csv", samples, {"i0": tmp_path / "out/pictures/0.png", "i1": Path("/elsewhere/1.png")})
    assert path.read_bytes().startswith(b"sample_id,image,")
    assert "طباخة" in path.read_text(encoding="utf-8")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["pictures/0.png", "/elsewhere/1.png"]
    assert [row["held_out"] for row in rows] == ["false", "false"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    sample = SampleRecord("s0", "i0", "k0", None, None)
    path = write_samples_csv(tmp_path / "samples.csv", [sample], {"i0": "/a.png"})
    before = path.read_bytes()
    with pytest.raises(InputError, match="image 'i1' of sample 's1' has no path"):
        write_samples_csv(path, [sample, SampleRecord("s1", "i1", "k1", None, None)], {"i0": "/a.png"})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["samples.csv"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*samples\.csv.*choose another folder"):
        write_samples_csv(tmp_path / "file" / "samples.csv", [], {})
