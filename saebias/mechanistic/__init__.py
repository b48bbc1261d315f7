"""Tools that look inside: each computes what its name says, on plain arrays. Importing a name loads its module only then."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "ActivationCache": "saebias.mechanistic.cache",
    "ContrastiveLanguageAnalyzer": "saebias.mechanistic.contrastive",
    "CrossLingualFeatureAligner": "saebias.mechanistic.feature_alignment",
    "FactoredMatrix": "saebias.mechanistic.factored",
    "HookPoint": "saebias.identifiers",
    "InteractionPatternAnalyzer": "saebias.mechanistic.interaction",
    "LanguageFeatureProfile": "saebias.mechanistic.language_profile",
    "LanguageSpecificFeatureIdentifier": "saebias.mechanistic.language_specific",
    "LogitLens": "saebias.mechanistic.lens",
    "MorphologicalGenderAnalyzer": "saebias.mechanistic.grammar",
    "SemanticGenderAnalyzer": "saebias.mechanistic.grammar",
    "TransformerProbeAnalyzer": "saebias.mechanistic.probes",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """The tool of that name, from its own module."""
    if name not in _HOMES:
        raise AttributeError(f"saebias.mechanistic has no tool {name!r}; the tools are {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
