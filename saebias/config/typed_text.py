"""Text that YAML would take for a number, a truth or a date: where a key holds text, what was typed stands.

A commit such as 0123456 or 1234e56, a column called 2024, a context called no: read as YAML, what was typed is gone. The nodes of the document keep it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from yaml.reader import ReaderError

from saebias.config.schema import Config

Kinds = Sequence[Any]
"""What a value may be: types, and lists of types."""


def kinds_at(key: str) -> Kinds | None:
    """What the value of a dotted key of the configuration may be; None where there is no such key."""
    kinds: Kinds = [Config]
    for part in key.split("."):
        fields = _fields(kinds)
        if part not in fields:
            return None
        kinds = fields[part]
    return kinds


def is_text(kinds: Kinds) -> bool:
    """Whether a value of one of these kinds can be nothing but text (a path, a name from a list) or absent."""
    return set(kinds) - {NoneType} in ({str}, {Path}, {str, Path})


def typed_text(given: str) -> str | None:
    """The text that is meant by what was given for a key that holds text: what stands in quotes, else all of it as it was typed; None for `null` or nothing.

    Raises YAMLError for characters that no text has.
    """
    try:
        node = yaml.compose(given, Loader=yaml.SafeLoader)
    except ReaderError:
        raise
    except yaml.YAMLError:
        return given.strip()
    if isinstance(node, yaml.ScalarNode):
        if node.style is None and node.tag == "tag:yaml.org,2002:null":
            return None
        # `!!str 0123` is YAML's own way to say that it is text.
        if node.style is not None or given.strip()[0] in "!&":
            return node.value
    return given.strip() or None


def as_typed_in_file(values: Any, document: str) -> Any:
    """The values that were read from the YAML of a configuration file, before they are resolved, with text as it was typed where text belongs."""
    return _as_typed(values, _node(document), {**_fields([Config]), "extends": [str]})


def as_typed(values: Any, document: str, kinds: Kinds) -> Any:
    """The same for the YAML of the value of one key, which may be of these kinds."""
    return _as_typed(values, _node(document), kinds)


def _node(document: str) -> yaml.Node | None:
    return yaml.compose(document, Loader=yaml.SafeLoader)


def _as_typed(value: Any, node: yaml.Node | None, kinds: Kinds | Mapping[str, Kinds]) -> Any:
    if isinstance(node, yaml.MappingNode) and isinstance(value, dict):
        fields, nodes = kinds if isinstance(kinds, Mapping) else _fields(kinds), _pairs(node)
        return {name: _as_typed(inner, nodes[name], fields[name]) if name in fields and name in nodes else inner for name, inner in value.items()}
    if isinstance(kinds, Mapping):
        return value
    if isinstance(node, yaml.SequenceNode) and isinstance(value, list):
        items = [kind for listed in kinds if get_origin(listed) is list for kind in _kinds(get_args(listed)[0])]
        return [_as_typed(inner, inner_node, items) for inner, inner_node in zip(value, node.value, strict=True)]
    is_other = isinstance(node, yaml.ScalarNode) and value is not None and not isinstance(value, str)
    return node.value if is_other and is_text(kinds) else value


def _pairs(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    """The nodes of a mapping by key, those that it takes over by `<<` included."""
    own: dict[str, yaml.Node] = {}
    taken: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                taken = {**_pairs(other), **taken}
        else:
            own[key.value] = value
    return {**taken, **own}


def _fields(kinds: Kinds) -> dict[str, Kinds]:
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return {name: list(_kinds(field.annotation)) for model in models for name, field in model.model_fields.items()}


def _kinds(annotation: Any) -> Iterator[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _kinds(arguments[0])
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _kinds(argument)
    elif origin is Literal:
        yield from (type(argument) for argument in arguments)
    else:
        yield annotation
