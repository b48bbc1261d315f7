"""A key that holds text gets the text that was typed, whatever YAML would make of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebias.config.load import known_keys, load_config
from saebias.config.schema import Config
from saebias.config.typed_text import is_text, kinds_at
from saebias.errors import ConfigError

# Integers, with leading zeros and underscores, octal and hexadecimal ones, numbers with a point or an exponent, base 60, truths, dates, not numbers.
TYPED = ["1234567", "0123456", "0o17", "0x1f", "0b11", "1_000", "1234e56", "12e03", "1e400", "1.50", ".5", "+7", "-0", "190:20:30", "1:30", ".inf", ".nan"]
TYPED += ["no", "on", "Off", "yes", "y", "True", "false", "2024-01-01", "2024-01-01 10:00:00", "2024"]


@pytest.mark.parametrize("typed", TYPED)
def test_plain_text_is_taken_as_it_is_typed(tmp_path: Path, typed: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"model:\n  revision: {typed}  # a comment\n  name: {typed}\ndata: {{columns: {{context: {typed}}}, image_root: {typed}}}\n")
    in_file = load_config(file)
    given = load_config(None, [f"{key}={typed}" for key in ("model.revision", "model.name", "data.columns.context", "data.image_root")])
    for cfg in (
        in_file,
        given,
        load_config(None, [f"model={{revision: {typed}, name: {typed}}}", f"data.columns.context='{typed}'", f"data.image_root={typed}"]),
    ):
        assert (cfg.model.revision, cfg.model.name, cfg.data.columns.context, str(cfg.data.image_root)) == (typed,) * 4


@given(st.from_regex(r"[0-9a-f_]{1,40}|[0-9]{1,12}(e[0-9]{1,4})?|[0-9]{1,3}(:[0-5]?[0-9]){1,3}", fullmatch=True))
def test_no_commit_becomes_a_number(commit: str) -> None:
    assert load_config(None, [f"model.revision={commit}"]).model.revision == commit


def test_every_key_that_holds_text_keeps_it() -> None:
    kept, refused = [], []
    for key in known_keys():
        kinds = kinds_at(key)
        assert kinds is not None
        if is_text(kinds):
            try:
                value: object = load_config(None, [f"{key}=0123"])
                for part in key.split("."):
                    value = getattr(value, part)
                assert str(value) == "0123"
                kept.append(key)
            except ConfigError as error:
                assert "0123" in str(error)
                refused.append(key)
    assert {"model.revision", "model.name", "model.accept_license", "data.table", "data.columns.image", "score.columns.caption", "runtime.artifacts"} <= set(
        kept
    )
    assert {"model.dtype", "data.source", "runtime.device", "score.language"} <= set(refused)
    assert not {"train.k", "extract.layers", "extract.tokens.image", "data.full_decode", "train.epochs", "seed"} & {*kept, *refused}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Describe this: now", "Describe this: now"),
        ("[a] picture, of", "[a] picture, of"),
        ("{image}describe:", "{image}describe:"),
        ("{image}", "{image}"),
        ("- a", "- a"),
        ("@home", "@home"),
        ("*all", "*all"),
        ("100%", "100%"),
        ("#1", "#1"),
        ("one\ntwo", "one\ntwo"),
        ("my 'own' words", "my 'own' words"),
        ("'quoted' and more", "'quoted' and more"),
        ("'in quotes '", "in quotes "),
        ('"a\\nb"', "a\nb"),
        ('"no"', "no"),
        ("'null'", "null"),
        ("!!str 0123", "0123"),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_all_that_is_given_for_a_text_is_the_text_but_for_quotes(typed: str, meant: str | None) -> None:
    assert load_config(None, [f"model.prompt_en={typed}"]).model.prompt_en == meant


def test_numbers_and_truths_stay_what_they_are_where_they_belong(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 0x10\ntrain: {k: 010, epochs: 5e-1, allow_failed_gate: on, seeds: [1_000, 7]}\nextract: {layers: 3, tokens: {image: none}}\n")
    cfg = load_config(file, ["data.full_decode=no", "extract.layers=[1, 2]"])
    assert (cfg.seed, cfg.train.k, cfg.train.epochs, cfg.train.allow_failed_gate, cfg.train.seeds) == (16, 8, 0.5, True, [1000, 7])
    assert (cfg.data.full_decode, cfg.extract.layers, cfg.extract.tokens.image) == (False, [1, 2], "none")


def test_anchors_references_and_taken_over_keys_carry_the_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "train: {k: &both 07, imports: [{hook: L01.resid_post, folder: 007}]}\n"
        "model: &m {name: *both, revision: '${model.name}'}\n"
        "data: {columns: {<<: &c {context: 0x1, image: 1e3}, image: 2e3, cluster: '${train.k}x'}}\n"
    )
    cfg = load_config(file)
    assert (cfg.train.k, cfg.model.name, cfg.model.revision) == (7, "07", "07")
    assert [str(one.folder) for one in cfg.train.imports] == ["007"]
    assert (cfg.data.columns.context, cfg.data.columns.image, cfg.data.columns.cluster) == ("0x1", "2e3", "7x")


def test_the_parent_of_a_file_may_be_called_by_a_number(tmp_path: Path) -> None:
    (tmp_path / "007").write_text("train: {k: 5}\nmodel: {revision: 0123}\n")
    (tmp_path / "child.yaml").write_text("extends: 007\n")
    cfg = load_config(tmp_path / "child.yaml")
    assert (cfg.train.k, cfg.model.revision) == (5, "0123")


@pytest.mark.parametrize("value", ["${train.k}", "[1]", "{a: 1}"])
def test_what_is_no_text_is_refused_in_one_line_that_says_how_to_write_it(tmp_path: Path, value: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"train: {{k: 3}}\nmodel: {{revision: {value if value[0] != '$' else repr(value)}}}\n")
    with pytest.raises(ConfigError, match=r"^.*mine\.yaml: model\.revision: .*write .* in quotes") as caught:
        load_config(file)
    assert "\n" not in str(caught.value)


def test_characters_that_no_text_has_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^--set model\.name=.*: cannot be read") as caught:
        load_config(None, ["model.name=a\udcffb"])
    assert "\n" not in str(caught.value)


def test_a_key_that_is_no_text_is_named_as_unknown(tmp_path: Path) -> None:
    for text in ("model: {no: 1}", "12: 3", "train: {imports: [{hook: L01.resid_post, folder: a, on: 1}]}"):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"mine\.yaml: ") as caught:
            load_config(tmp_path / "mine.yaml")
        assert "\n" not in str(caught.value)


def test_what_follows_a_number_is_not_dropped_as_a_comment() -> None:
    with pytest.raises(ConfigError, match=r"train\.k: input should be a valid integer"):
        load_config(None, ["train.k=5 #6"])


def test_an_unknown_key_is_still_named() -> None:
    for key in ("model.nam", "model.name.x", "modle.name", "model.name[0]"):
        with pytest.raises(ConfigError, match=r"unknown key|model\.name"):
            load_config(None, [f"{key}=0123"])
    assert kinds_at("model.name") == [str] and kinds_at("nowhere") is None and kinds_at("model.name.x") is None
    assert isinstance(load_config(None, []), Config)
