"""All stages, in the order in which a person thinks of them. No heavy import: each stage imports what it needs when it runs."""

from __future__ import annotations

from saebias.stages.analyze_behavior import ANALYZE_BEHAVIOR
from saebias.stages.analyze_features import ANALYZE_FEATURES
from saebias.stages.extract import EXTRACT
from saebias.stages.factored_rows import MECHANISTIC_FACTORED
from saebias.stages.lens_rows import MECHANISTIC_LENS
from saebias.stages.mechanistic import MECHANISTIC_ALIGNMENT, MECHANISTIC_PROBES
from saebias.stages.mechanistic_codes import MECHANISTIC_CODES
from saebias.stages.mechanistic_grammar import MECHANISTIC_GRAMMAR
from saebias.stages.mechanistic_interactions import MECHANISTIC_INTERACTIONS
from saebias.stages.mechanistic_latents import MECHANISTIC_CONTRAST, MECHANISTIC_MATCHING, MECHANISTIC_PROFILE, MECHANISTIC_SPECIFICITY
from saebias.stages.mechanistic_model import MECHANISTIC_ATTRIBUTION, MECHANISTIC_PATCHING
from saebias.stages.plot import PLOT
from saebias.stages.prepare import PREPARE
from saebias.stages.steer import STEER
from saebias.stages.train import TRAIN

STAGES = (
    PREPARE,
    EXTRACT,
    TRAIN,
    ANALYZE_BEHAVIOR,
    ANALYZE_FEATURES,
    STEER,
    MECHANISTIC_LENS,
    MECHANISTIC_PROBES,
    MECHANISTIC_ALIGNMENT,
    MECHANISTIC_ATTRIBUTION,
    MECHANISTIC_PATCHING,
    MECHANISTIC_FACTORED,
    MECHANISTIC_CODES,
    MECHANISTIC_PROFILE,
    MECHANISTIC_SPECIFICITY,
    MECHANISTIC_MATCHING,
    MECHANISTIC_CONTRAST,
    MECHANISTIC_GRAMMAR,
    MECHANISTIC_INTERACTIONS,
    PLOT,
)

TOOL_PARTS = {
    "LogitLens": "mechanistic.lens",
    "TransformerProbeAnalyzer": "mechanistic.probes",
    "FactoredMatrix": "mechanistic.factored",
    "LanguageFeatureProfile": "mechanistic.profile",
    "LanguageSpecificFeatureIdentifier": "mechanistic.specificity",
    "CrossLingualFeatureAligner": "mechanistic.matching",
    "ContrastiveLanguageAnalyzer": "mechanistic.contrast",
    "MorphologicalGenderAnalyzer": "mechanistic.grammar",
    "SemanticGenderAnalyzer": "mechanistic.grammar",
    "InteractionPatternAnalyzer": "mechanistic.interactions",
}
"""The stage that runs each tool, for people who know the tool's name. HookPoint and ActivationCache are what the tools are made of and run nothing."""
