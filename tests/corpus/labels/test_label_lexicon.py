"""Lexicons are data with a source for every word, and a user can add to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebias.corpus.label_lexicon import FOLDER, extra_entries, lexicon
from saebias.corpus.labels import label_caption
from saebias.errors import InputError


@pytest.mark.parametrize("name", ["en", "en_phrases", "en_contexts", "ar_persons", "ar_words", "ar_verbs", "ar_contexts"])
def test_every_word_has_a_source_and_stands_once_per_kind(name: str) -> None:
    entries = lexicon(name)
    assert entries
    assert all(entry.source and entry.kind for entry in entries)
    keys = [(entry.word, entry.kind) for entry in entries]
    assert len(keys) == len(set(keys))


def test_lexicon_files_are_utf8_and_have_no_carriage_returns() -> None:
    for path in FOLDER.glob("*.tsv"):
        assert "\r" not in path.read_text(encoding="utf-8")


def test_a_users_words_add_to_and_override_ours(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    lines = (
        "language\tword\tgender\tnumber\tkind\tsource",
        "en\tmuggle\tN\ts\trole\ta novel",
        "en\tguy\tN\ts\tperson\tour style guide",
        "ar\tكهربجي\tM\ts\trole\tdialect",
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert label_caption("a muggle on a train", "en", path).label == "N"
    assert label_caption("a guy on a train", "en", path).label == "N"
    assert label_caption("a guy on a train", "en").label == "M"
    assert label_caption("كهربجية تعمل", "ar", path).label == "F"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("en\tmuggle\tQ\ts\trole\ta novel", ":1: gender 'Q' of 'muggle'"),
        ("en\tmuggle\tN\tx\trole\ta novel", ":1: number 'x'"),
        ("xx\tmuggle\tN\ts\trole\ta novel", ":1: language 'xx'"),
        ("en\tmuggle\tN", ":1: 2 cells"),
    ],
)
def test_a_wrong_line_is_named_with_file_line_and_column(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        extra_entries(path, "en")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        extra_entries(tmp_path / "none.tsv", "en")
    broken = tmp_path / "broken.tsv"
    broken.write_bytes(b"en\t\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8 at byte 3"):
        extra_entries(broken, "en")
