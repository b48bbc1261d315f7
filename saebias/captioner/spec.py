"""What a small captioner is made of: words, pictures, planted shares, model sizes, seeds. Read from YAML, never changed afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from saebias.corpus.emoji import STYLES, TONES
from saebias.errors import ConfigError
from saebias.identifiers import LANGUAGES

EVERY_CONTEXT = "every context"


@dataclass(frozen=True)
class Context:
    """A profession: its words, its drawings, and the planted shares on pictures that show no gender."""

    name: str
    """Neutral English name, also the key of the emoji concept."""
    ar_M: str
    """Arabic masculine noun."""
    ar_F: str
    """Arabic feminine noun: ar_M with ة after the first word."""
    styles: tuple[str, ...]
    untouched: tuple[str, ...]
    """Drawing styles never trained on."""
    p_en: float
    """Planted P(F | F or M, ambiguous picture) in English."""
    p_ar: float
    neutral_en: float
    """Planted share of English captions of ambiguous pictures that say no gender."""

    def p(self, language: str) -> float:
        """Planted P(F | F or M) on ambiguous pictures in `language`."""
        return {"en": self.p_en, "ar": self.p_ar}[language]

    def neutral(self, language: str) -> float:
        """Planted share of captions of ambiguous pictures that say no gender; 0 in Arabic, whose nouns always say one."""
        return {"en": self.neutral_en, "ar": 0.0}[language]


@dataclass(frozen=True)
class ModelSpec:
    """Sizes of the model; `image_tokens` is a square that divides the square of patches."""

    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate_size: int
    vision_hidden_size: int
    vision_layers: int
    vision_heads: int
    vision_intermediate_size: int
    patch_size: int
    image_tokens: int


@dataclass(frozen=True)
class TrainingSpec:
    """Seeds, steps and rates of the two training stages (tower with small heads, then decoder on the frozen tower)."""

    data_seed: int
    """Seed of scenes and caption draws."""
    init_seed: int
    """Seed of the weights at the start."""
    ambiguous_share: float
    batch_scenes: int
    tower_steps: int
    tower_learning_rate: float
    pool_scenes: int
    """Scenes whose tower features the decoder is trained on."""
    decoder_steps: int
    decoder_learning_rate: float
    warmup_steps: int


@dataclass(frozen=True)
class CaptionerSpec:
    """All that determines a captioner and its training."""

    name: str
    contexts: tuple[Context, ...]
    objects: tuple[tuple[str, str], ...]
    """(English name, emoji) of each second object."""
    backgrounds: tuple[tuple[str, tuple[int, int, int]], ...]
    held_out_tone: str
    image_size: int
    person_sizes: tuple[int, ...]
    object_sizes: tuple[int, ...]
    prompts: tuple[tuple[str, str], ...]
    error_rate: float
    model: ModelSpec
    training: TrainingSpec

    def context(self, name: str) -> Context:
        """The context called `name`; raises ConfigError when there is none."""
        for context in self.contexts:
            if context.name == name:
                return context
        raise ConfigError(f"captioner spec {self.name!r} has no context {name!r}; it has {', '.join(context.name for context in self.contexts)}")

    def prompt(self, language: str) -> str:
        """The text between the picture and the caption in `language`; the caption follows after one space."""
        return dict(self.prompts)[language]

    def digest(self) -> str:
        """12 hex digits that change with any value of the spec."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


def load_spec(source: str | Path) -> CaptionerSpec:
    """The spec named `source` ("skewed", "null") of the package, or read from a YAML file; raises ConfigError when a value does not fit."""
    path = _path(source)
    return _spec_of(_read(path), path)


def spec_files(source: str | Path) -> list[Path]:
    """The YAML file of the spec `source` and those it extends: their content is the spec. Raises ConfigError when one is missing."""
    found = [_path(source)]
    while (parent := _mapping(found[-1]).get("extends")) is not None:
        found.append(found[-1].parent / parent)
    return found


def _path(source: str | Path) -> Path:
    path = Path(source)
    return path if path.suffix in (".yaml", ".yml") else Path(str(files("saebias.captioner"))) / "specs" / f"{source}.yaml"


def feminine(masculine: str) -> str:
    """The Arabic feminine of a noun phrase by regular morphology: ة after its first word (عامل بناء -> عاملة بناء)."""
    head, *rest = masculine.split(" ")
    return " ".join([head + "ة", *rest])


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (Path(__file__).parent / "specs").glob("*.yaml") if p.stem != "common"))
        raise ConfigError(f"no captioner spec at {path}; name a YAML file or one of {known}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a captioner spec is a table of keys, not {type(values).__name__}")
    for key in _keys(values):
        _text(key, "a key", path)
    if "extends" in values:
        _text(values["extends"], "extends", path)
    return values


def _keys(values: dict[Any, Any]) -> Iterator[Any]:
    for key, value in values.items():
        yield key
        if isinstance(value, dict):
            yield from _keys(value)


def _text(value: Any, what: str, path: Path) -> str:
    """YAML reads 2024 as a number and no as a truth: what was typed is gone, so such a word is not guessed at."""
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {what} is {value!r}, which is no text; write the word that is meant in quotes")
    return value


def _read(path: Path) -> dict[str, Any]:
    values = _mapping(path)
    parent = values.pop("extends", None)
    return values if parent is None else _read(path.parent / parent) | values


def _spec_of(values: dict[str, Any], path: Path) -> CaptionerSpec:
    expected = {field.name for field in fields(CaptionerSpec)} | {"planted"}
    if problems := expected ^ values.keys():
        raise ConfigError(f"{path}: keys missing or unknown: {', '.join(sorted(problems))}; a captioner spec has {', '.join(sorted(expected))}")
    if values["held_out_tone"] not in TONES:
        raise ConfigError(f"{path}: held_out_tone {values['held_out_tone']!r} is no skin tone; use one of {', '.join(TONES)}")
    try:
        model, training = ModelSpec(**values["model"]), TrainingSpec(**values["training"])
    except TypeError as error:
        raise ConfigError(f"{path}: model or training: {error}") from error
    if training.data_seed == training.init_seed:
        raise ConfigError(f"{path}: data_seed and init_seed are both {training.data_seed}; data and weights must not share a seed")
    return CaptionerSpec(
        name=_text(values["name"], "name", path),
        contexts=_contexts(values["contexts"], values["planted"], path),
        objects=tuple((name, _text(emoji, f"objects.{name}", path)) for name, emoji in values["objects"].items()),
        backgrounds=tuple((name, (red, green, blue)) for name, (red, green, blue) in values["backgrounds"].items()),
        held_out_tone=values["held_out_tone"],
        image_size=values["image_size"],
        person_sizes=tuple(values["person_sizes"]),
        object_sizes=tuple(values["object_sizes"]),
        prompts=tuple((language, _text(values["prompts"][language], f"prompts.{language}", path)) for language in LANGUAGES),
        error_rate=_share(values["error_rate"], "error_rate", path),
        model=model,
        training=training,
    )


def _contexts(words: dict[str, Any], planted: dict[str, Any], path: Path) -> tuple[Context, ...]:
    if EVERY_CONTEXT in planted:
        planted = dict.fromkeys(words, planted[EVERY_CONTEXT])
    if problems := words.keys() ^ planted.keys():
        raise ConfigError(f"{path}: contexts without planted shares, or the reverse: {', '.join(sorted(problems))}; give each context en, ar and neutral")
    contexts = []
    for name, row in words.items():
        styles, untouched = tuple(row["styles"]), tuple(row.get("untouched", ()))
        if unknown := set(styles + untouched) - set(STYLES):
            raise ConfigError(f"{path}: context {name!r}: unknown drawing style {', '.join(unknown)}; styles are {', '.join(STYLES)}")
        shares = {key: _share(planted[name][key], f"planted.{name}.{key}", path) for key in ("en", "ar", "neutral")}
        noun = _text(row["ar"], f"contexts.{name}.ar", path)
        contexts.append(Context(name, noun, feminine(noun), styles, untouched, p_en=shares["en"], p_ar=shares["ar"], neutral_en=shares["neutral"]))
    return tuple(contexts)


def _share(value: Any, key: str, path: Path) -> float:
    if not isinstance(value, float | int) or not 0 <= value < 1:
        raise ConfigError(f"{path}: {key} is {value!r}; give a share from 0 up to, but not including, 1")
    return float(value)
