"""YAML files and `--set` overrides to a typed Config, with errors that name the key and the nearest one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from yaml import YAMLError

from saebias.config.schema import RENAMED, Config
from saebias.config.typed_text import as_typed, as_typed_in_file, is_text, kinds_at, typed_text
from saebias.errors import ConfigError
from saebias.paths import configs_folder


def load_config(file: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """The configuration of `file` (its `extends:` parents first), then `KEY=VALUE` overrides.

    Without a file the defaults stand: the demonstration. A bare name such as `demo` means the shipped configs/demo.yaml.
    Raises ConfigError for an unknown key (naming the nearest), a value of the wrong type, or a file that cannot be read.
    """
    tree: dict[str, Any] = {}
    origin = "the defaults"
    if file is not None:
        path = _find(file)
        origin = str(path)
        tree = _read_with_parents(path, ())
    for override in overrides:
        tree = _apply_override(tree, override)
    unknown = _first_unknown(tree)
    if unknown is not None:
        raise ConfigError(_unknown_message(unknown, overrides, origin))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_validation_message(error, overrides, origin)) from None


def _find(file: Path) -> Path:
    if file.exists():
        return file
    shipped = configs_folder() / f"{file.name.removesuffix('.yaml')}.yaml"
    if file.parent == Path() and shipped.exists():
        return shipped
    names = ", ".join(sorted(p.stem for p in configs_folder().glob("*.yaml")))
    raise ConfigError(f"{file}: there is no such configuration file; shipped ones are {names}")


def _read_with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path}: extends itself through {' -> '.join(p.name for p in seen)}; break the circle")
    try:
        text = path.read_text(encoding="utf-8")
        read = OmegaConf.load(StringIO(text))
        typed = as_typed_in_file(OmegaConf.to_container(read), text)
        loaded = OmegaConf.to_container(OmegaConf.create(typed), resolve=True) if isinstance(typed, dict) else typed
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds a {type(loaded).__name__} where keys and values are expected, such as `train: {{k: 16}}`")
    tree: dict[str, Any] = {str(key): value for key, value in loaded.items()}
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    parent_path = path.parent / str(parent)
    if not parent_path.exists():
        raise ConfigError(f"{path}: extends {parent}, which does not exist beside it")
    return _merge(_read_with_parents(parent_path, (*seen, path.resolve())), tree)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(below), OmegaConf.create(above)))
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


def _apply_override(tree: dict[str, Any], override: str) -> dict[str, Any]:
    key, equals, _ = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: write it as KEY=VALUE, such as --set train.k=16")
    text, kinds = override.partition("=")[2], kinds_at(key.strip())
    try:
        if kinds is None:
            given = OmegaConf.to_container(OmegaConf.from_dotlist([override]))
        elif is_text(kinds):
            given = _nested(key.strip(), typed_text(text))
        else:
            # YAML would drop what follows as a comment: nothing that was typed is passed over.
            as_yaml = json.dumps(text, ensure_ascii=False) if " #" in text and text[:1] not in "{['\"" else text
            read = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={as_yaml}"]))
            assert isinstance(read, dict)
            given = _nested(key.strip(), as_typed(read["value"], text, kinds))
        assert isinstance(given, dict)
        return _merge(tree, {str(name): value for name, value in given.items()})
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"--set {override}: cannot be read: {' '.join(str(error).split())}") from None


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _slices(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel] | None]]:
    for name, field in model.model_fields.items():
        # A list of slices is one value: its items have no dotted keys.
        candidates = [field.annotation, *(() if get_origin(field.annotation) is list else get_args(field.annotation))]
        yield name, next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the configuration, leaves only."""
    for name, inner in _slices(model):
        if inner is None:
            yield prefix + name
        else:
            yield from known_keys(inner, f"{prefix}{name}.")


def _first_unknown(tree: dict[str, Any], model: type[BaseModel] = Config, prefix: str = "") -> str | None:
    inner_of = dict(_slices(model))
    for key, value in tree.items():
        if key not in inner_of:
            # YAML may have read the key itself as a number or a truth.
            return f"{prefix}{key}"
        inner = inner_of[key]
        if inner is not None and isinstance(value, dict):
            found = _first_unknown(value, inner, f"{prefix}{key}.")
            if found is not None:
                return found
    return None


def _place(key: str, overrides: Sequence[str], origin: str) -> str:
    given = [o for o in overrides if o.partition("=")[0].strip().startswith(key)]
    return f"--set {given[-1]}" if given else origin


def _unknown_message(key: str, overrides: Sequence[str], origin: str) -> str:
    place = _place(key, overrides, origin)
    if key in RENAMED:
        return f"{place}: key {key} is now called {RENAMED[key]}; write that"
    keys = list(known_keys())
    folders = sorted({k.rpartition(".")[0] for k in keys if "." in k})
    near = difflib.get_close_matches(key, keys + folders, n=1, cutoff=0.6)
    if not near:
        leaf = key.rpartition(".")[2]
        same_leaf = [k for k in keys if k.rpartition(".")[2] == leaf]
        near = same_leaf[:1] or difflib.get_close_matches(leaf, [k.rpartition(".")[2] for k in keys], n=1)
    hint = f"did you mean {near[0]}?" if near else f"the top-level keys are {', '.join(Config.model_fields)}"
    return f"{place}: unknown key {key}; {hint}"


def _validation_message(error: ValidationError, overrides: Sequence[str], origin: str) -> str:
    found = error.errors()
    # A key that does not exist tells more than the one that is missing for it.
    first = min(found, key=lambda other: other["type"] != "extra_forbidden")
    key = _key_of(first["loc"])
    # Unknown keys were looked for before: here it is one of an item of a list.
    *_, index, field = (None, *first["loc"])
    item = f"item {index}: {field}: " if isinstance(index, int) else ""
    # A value that may be of several kinds is refused once by each: the reader is told all that it may be.
    refusals = [first] if item or not key else [other for other in found if _key_of(other["loc"]) == key]
    said = dict.fromkeys(refusal["msg"].removeprefix("Value error, ") for refusal in refusals)
    message = ", or ".join(text[0].lower() + text[1:] for text in said).replace(", or input should be", ", or")
    value = first["input"]
    shown = "" if isinstance(value, dict) else f" (it is {value!r})"
    kinds = kinds_at(key)
    if kinds is not None and is_text(kinds) and value is not None and not isinstance(value, str):
        # What stands there by itself was taken as it was typed: this is another key's number, or a list.
        shown += "; write the text that is meant in quotes"
    return f"{_place(key or 'configuration', overrides, origin)}: {key or 'configuration'}: {item}{message}{shown}"


def _key_of(place: tuple[int | str, ...]) -> str:
    """The key of ours that pydantic's location lies in: it appends the kind that was tried and the number of a list's item."""
    names = set(known_keys()) | {k.rpartition(".")[0] for k in known_keys()}
    parts = [str(part) for part in place]
    while parts and ".".join(parts) not in names:
        parts.pop()
    return ".".join(parts)
