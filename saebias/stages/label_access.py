"""The labeller as the configuration wants it: one place where stages get it from, with the files that change its labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saebias.config.schema import Config

if TYPE_CHECKING:
    from saebias.corpus.labels import CaptionLabel, Labeller


def labeller_of(cfg: Config, language: str) -> Labeller:
    """The labelling function of a language with the user's own words in it; built once per process."""
    from saebias.corpus.labels import labeller

    return labeller(language, cfg.labels.extra_lexicon)


def caption_label(cfg: Config, text: str, language: str) -> CaptionLabel:
    """The gender label of one caption, with the user's own words known."""
    return labeller_of(cfg, language)(text)


def lexicon_files(cfg: Config) -> list[Path]:
    """The user's lexicon, where there is one: an outside file whose content changes labels."""
    return [] if cfg.labels.extra_lexicon is None else [cfg.labels.extra_lexicon]


def label_sources() -> list[Path]:
    """The built-in lexicons and the rules that read them: labels made by others of them are other labels."""
    from saebias.corpus.label_lexicon import FOLDER

    rules = sorted(path for pattern in ("label*.py", "arabic*.py", "english.py", "prevalence.py") for path in FOLDER.parent.glob(pattern))
    return [*rules, *sorted(FOLDER.glob("*.tsv"))]
