"""Configuration: what is written is what is meant, and a slip is named with the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebias.config.fingerprint import canonical_json, content_digest, digest
from saebias.config.load import known_keys, load_config
from saebias.config.schema import Config
from saebias.errors import ConfigError
from saebias.paths import configs_folder


@pytest.mark.parametrize("path", sorted(configs_folder().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    assert isinstance(load_config(path), Config)


def test_the_demo_configuration_is_the_default() -> None:
    assert load_config(Path("demo")) == load_config(None)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.kk=3", "did you mean train.k?"),
        ("trian.k=3", "did you mean train?"),
        ("train.k=abc", "train.k: input should be a valid integer"),
        ("train.k=0", "greater than or equal to 1"),
        ("extract.layers=some", "extract.layers: input should be 'all', or a valid integer, or a valid list (it is 'some')"),
        ("extract.layers=[]", "at least 1 item"),
        ("extract.layers=true", "a valid integer"),
        ("extract.tokens.image=0", "greater than or equal to 1"),
        ("extract.tokens.image=true", "a valid integer"),
        ("data.split.sae=.9", "add up to 1"),
        ("data.source=table", "data.table"),
        ("foo", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_itself(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    message = str(caught.value)
    assert said in message and override in message and "\n" not in message


def test_an_unknown_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train: {kk: 3}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown key train\.kk; did you mean train\.k\?"):
        load_config(file)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "extends: nowhere.yaml", "\x00"])
def test_a_file_that_is_no_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml") as caught:
        load_config(file)
    assert "\n" not in str(caught.value)


def test_a_circle_of_extends_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(tmp_path / "a.yaml")


def test_a_child_overrides_its_parent_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text("train: {k: 5, expansion: 3}\n")
    (tmp_path / "child.yaml").write_text("extends: parent.yaml\ntrain: {k: 7}\n")
    cfg = load_config(tmp_path / "child.yaml", ["train.epochs=5e-1"])
    assert (cfg.train.k, cfg.train.expansion, cfg.train.epochs) == (7, 3, 0.5)


def test_every_known_key_is_reachable_by_its_dots() -> None:
    cfg = Config()
    for key in known_keys():
        value: object = cfg
        for part in key.split("."):
            value = getattr(value, part)


def test_a_wrong_key_in_an_item_of_a_list_is_named() -> None:
    for item, told in (("{hook: a}", "folder: field required"), ("{hook: a, foldr: b}", "foldr: extra inputs")):
        with pytest.raises(ConfigError, match=f"--set train.imports.*: train.imports: item 0: {told}"):
            load_config(None, [f"train.imports=[{item}]"])


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=6))
def test_a_digest_does_not_depend_on_the_order_of_keys(values: dict[str, int]) -> None:
    turned = dict(reversed(values.items()))
    assert canonical_json(values) == canonical_json(turned)
    assert digest(values) == digest(turned)


def test_a_content_digest_follows_content_and_names_not_times(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = content_digest([folder])
    (folder / "a").write_text("1")
    assert content_digest([folder]) == first
    (folder / "a").write_text("2")
    second = content_digest([folder])
    (folder / "a").rename(folder / "b")
    assert len({first, second, content_digest([folder])}) == 3


def test_a_path_with_a_number_sign_is_taken_as_it_stands() -> None:
    assert str(load_config(None, ["runtime.artifacts=/tmp/my #1"]).runtime.artifacts) == "/tmp/my #1"
