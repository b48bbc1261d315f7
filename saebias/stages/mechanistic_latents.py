"""The tools that sort a dictionary's latents by language: profile, specificity, matching, and the contrast between languages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import InputError, NotEnoughData
from saebias.pipeline.stage import StageContext
from saebias.stages.activation_source import nan_to_null
from saebias.stages.behavior_metrics import none_if_nan
from saebias.stages.mechanistic_codes import HELD_OUT, LayerCodes, held_out, latents_stage, layer_codes, paired_rows
from saebias.stages.model_access import spoken

if TYPE_CHECKING:
    from saebias.mechanistic.alignment import AlignmentRow
    from saebias.mechanistic.language_profile import LanguageProfile

Tables = dict[str, list[dict[str, Any]]]


def run_layers(ctx: StageContext, what: str, compute: Callable[[LayerCodes], Tables]) -> None:
    """One unit per dictionary; where the data lack what the tool needs its tables stay empty, and the report says so once."""
    layers = {codes.hook: codes for codes in layer_codes(ctx)}
    waiting = ctx.pending(list(layers))
    said: set[str] = set()
    with ctx.reporter.task(what, len(waiting), "dictionaries") as task:
        for name in waiting:
            tables: Tables = {table: [] for table in ctx.stage.tables}
            try:
                tables |= compute(layers[name])
            except NotEnoughData as error:
                if str(error) not in said:
                    ctx.reporter.warn(f"{what} is left out: {error}", alarm=True)
                said.add(str(error))
            with ctx.unit(name) as out:
                for table, rows in tables.items():
                    out.rows(table, rows)
            task.advance()


def run_profile(ctx: StageContext) -> None:
    """Per layer and language: how many latents fire, how densely, and which follow the gender shown, or the stereotype where none is shown."""
    from saebias.mechanistic.language_profile import LanguageFeatureProfile, contexts_of

    tool = LanguageFeatureProfile(n_permutations=ctx.cfg.mechanistic.latent_permutations)
    parts = cache(lambda: held_out(ctx, spoken(ctx)))
    said = cache(lambda: {(row["sample_id"], row["language"]): row["p_female"] for row in ctx.table("exact_probabilities").to_pylist()})

    def compute(layer: LayerCodes) -> Tables:
        summary, latents = [], []
        for language, rows in parts().items():
            codes = layer.at(rows.row)
            stereotype = {"p_female_N": np.array([said().get((sample, language), np.nan) for sample in rows.sample_id]), "contexts_N": rows.context}
            found = tool.read(layer.sae_id, language, codes, rows.gender, rows.cluster, seed=ctx.seed(f"{layer.hook}-{language}"), **stereotype)
            row = nan_to_null(asdict(found.row()))
            summary.append({**row, "stereotype_note": row["stereotype_note"] or None, "layer": layer.layer, "split": HELD_OUT})
            latents += _profile_rows(layer, found, contexts_of(codes, rows.context))
        return {"language_profiles": summary, "latent_profiles": latents}

    run_layers(ctx, "profiling latents", compute)


def _profile_rows(layer: LayerCodes, found: LanguageProfile, contexts: list[list[tuple[str, float]]]) -> list[dict[str, Any]]:
    rows = []
    for latent in range(layer.n_latents):
        dead = found.group_F[latent] == "dead"
        rows.append(
            {
                "sae_id": layer.sae_id,
                "layer": layer.layer,
                "latent": latent,
                "language": found.language,
                "gender_group": str(found.group_F[latent]),
                "firing_rate": float(found.firing_rate_F[latent]),
                "active_mean": none_if_nan(float(found.active_mean_F[latent])),
                "auroc": None if dead else float(found.auroc_F[latent]),
                "low": None if dead else none_if_nan(float(found.low_F[latent])),
                "high": None if dead else none_if_nan(float(found.high_F[latent])),
                "p": float(found.p_F[latent]),
                "q": float(found.q_F[latent]),
                **_followed(found, latent),
                "top_contexts": ", ".join(name for name, _ in contexts[latent]) or None,
                "note": "never fires on these images" if dead else None,
            }
        )
    return rows


def _followed(found: LanguageProfile, latent: int) -> dict[str, Any]:
    """What a latent does with the stereotype; NULL where that was not asked, correlations NULL too where there was none to follow."""
    of = found.followers
    if of is None or not of.tested:
        return dict.fromkeys(("stereotype_group", "stereotype_correlation", "stereotype_low", "stereotype_high", "stereotype_p", "stereotype_q"))
    dead = of.group_F[latent] == "dead"
    numbers = {"correlation": of.correlation_F, "low": of.low_F, "high": of.high_F, "p": of.p_F, "q": of.q_F}
    values = {f"stereotype_{name}": None if dead or of.reason else none_if_nan(float(values_F[latent])) for name, values_F in numbers.items()}
    return {"stereotype_group": str(of.group_F[latent]), **values}


def run_specificity(ctx: StageContext) -> None:
    """Per latent: shared, English only, Arabic only, unclear, or none, with the evidence."""
    from saebias.mechanistic.language_specific import LanguageSpecificFeatureIdentifier

    tool = LanguageSpecificFeatureIdentifier(n_permutations=ctx.cfg.mechanistic.latent_permutations)

    pairs = cache(lambda: paired_rows(ctx))

    def compute(layer: LayerCodes) -> Tables:
        en, ar = pairs()
        found = tool.read(layer.sae_id, layer.at(en.row), layer.at(ar.row), en.gender, en.cluster, seed=ctx.seed(layer.hook))
        rows = [{**nan_to_null(asdict(row)), "layer": layer.layer, "split": HELD_OUT} for row in found]
        return {"latent_languages": rows}

    run_layers(ctx, "sorting latents by language", compute)


def run_matching(ctx: StageContext) -> None:
    """Per layer: which latent of one language is which of the other, matched one to one over paired images."""
    from saebias.mechanistic.feature_alignment import MAX_LATENTS, CrossLingualFeatureAligner, DictionaryCodes
    from saebias.stages.dictionaries import main_dictionaries

    tool = CrossLingualFeatureAligner(n_permutations=max(5, min(19, ctx.cfg.mechanistic.permutations // 20)))
    decoders = {dictionary.sae_id: dictionary.sae.W_dec_FD.numpy() for dictionary in main_dictionaries(ctx)}

    pairs = cache(lambda: paired_rows(ctx))

    def compute(layer: LayerCodes) -> Tables:
        from saebias.identifiers import FeatureRef

        en, ar = pairs()
        sides = []
        for rows in (en, ar):
            codes = layer.at(rows.row)
            kept = _most_firing(codes.fires_F, MAX_LATENTS)
            features = tuple(FeatureRef(layer.sae_id, int(latent)) for latent in kept)
            sides.append(DictionaryCodes(features, type(codes)(codes.matrix[:, kept]), decoders[layer.sae_id][kept]))
        try:
            found = tool.read(*sides, en.cluster, seed=ctx.seed(layer.hook))
        except InputError as error:
            raise NotEnoughData(f"mechanistic: layer {layer.layer}: {error}") from None
        rows = [
            {
                "sae_id": layer.sae_id,
                "layer": layer.layer,
                "latent_en": match.en.index,
                "latent_ar": match.ar.index,
                "correlation": match.correlation,
                "score": none_if_nan(match.score),
                "decoder_cosine": match.decoder_cosine,
                "threshold": match.threshold,
                "is_match": match.is_match,
                "is_same_latent": match.is_same_latent,
                "n_images": len(en.row),
                "n_clusters": len(np.unique(en.cluster)),
                "split": HELD_OUT,
                "note": None
                if not np.isnan(match.score)
                else "in one language the pictures of a group are not shown to share anything: no correlation of what they share",
            }
            for match in found
        ]
        return {"language_matches": rows}

    run_layers(ctx, "matching latents across languages", compute)


def _most_firing(fires_F: np.ndarray, limit: int) -> np.ndarray:
    """The latents that fire most, at most `limit`, sorted: the shortlist of a pairwise tool."""
    live = np.flatnonzero(fires_F)
    return np.sort(live[np.argsort(-fires_F[live], kind="stable")[:limit]])


def run_contrast(ctx: StageContext) -> None:
    """Per layer: rungs L1 to L3 of the claim ladder and the verdict; L4 is joined from steering in the view claim_ladder."""
    from saebias.mechanistic.alignment import PairedActivations
    from saebias.mechanistic.contrastive import ContrastiveLanguageAnalyzer, latent_effect_rows
    from saebias.stages.activation_source import open_source
    from saebias.stages.mechanistic import paired_decisions

    cfg = ctx.cfg.mechanistic
    tool = ContrastiveLanguageAnalyzer(n_permutations=max(99, min(cfg.permutations, 199)), n_folds=cfg.folds)
    source = open_source(ctx)
    known = _known_rows(ctx)

    # Directions and probes are of the images that alignment read; codes only of those that no dictionary was trained on.
    pairs, every = cache(lambda: paired_rows(ctx)), cache(lambda: paired_decisions(source, ctx.cfg.seed))

    def compute(layer: LayerCodes) -> Tables:
        from saebias.identifiers import HookPoint

        en, ar = pairs()
        all_en, all_ar = every()
        if layer.layer not in known:
            raise NotEnoughData(f"mechanistic: layer {layer.layer} has no rows of alignment; see what `mechanistic --only alignment` left out")
        hook = HookPoint.parse(layer.hook)
        x_en_ND, x_ar_ND = (source.array.read_rows(hook, rows.row) for rows in (all_en, all_ar))
        paired = PairedActivations(layer.layer, x_en_ND, x_ar_ND, source.gender(all_en.sample_id), source.column(all_en.sample_id, "cluster_id"))
        try:
            found = tool.read(paired, known=known[layer.layer], seed=ctx.seed(layer.hook))
            drawn = {"n_permutations": tool.n_permutations, "seed": ctx.seed(layer.hook)}
            of_latents = latent_effect_rows(layer.layer, layer.at(en.row), layer.at(ar.row), en.gender, en.cluster, **drawn)
        except InputError as error:
            raise NotEnoughData(f"mechanistic: layer {layer.layer}: {error}") from None
        rungs = [{**nan_to_null(asdict(row)), "rung": _RUNG_OF[row.measure]} for row in (*found.rows, *of_latents) if row.measure in _RUNG_OF]
        clear = paired.clear
        counts = {"n_images": len(clear.gender_N), "n_clusters": len(np.unique(clear.cluster_N)), "split": EVERY}
        angle = none_if_nan(found.angle_degrees)
        verdict = {"layer": layer.layer, "verdict": found.verdict, "angle_degrees": angle, **counts, "note": found.note or None}
        return {"language_contrast": rungs, "language_verdicts": [verdict]}

    run_layers(ctx, "contrasting languages", compute)


EVERY = "sae+select+report"
"""Splits of the verdict: directions and probes read activations, not a dictionary, and nothing is chosen by them."""

_RUNG_OF: Mapping[str, str] = {
    "probe_transfer_en_ar": "L1",
    "probe_transfer_ar_en": "L1",
    "direction_cosine": "L2",
    "latent_rank_correlation": "L3",
    "latent_top_overlap": "L3",
}


def _known_rows(ctx: StageContext) -> dict[int, list[AlignmentRow]]:
    """The rows of alignment by layer, as the tool computes them."""
    from saebias.mechanistic.alignment import AlignmentRow

    nan = float("nan")
    found: dict[int, list[AlignmentRow]] = {}
    for row in ctx.table("alignment").to_pylist():
        values: dict[str, Any] = {field.name: row[field.name] for field in fields(AlignmentRow)}
        values |= {name: nan for name in ("value", "low", "high") if values[name] is None} | {"note": values["note"] or ""}
        found.setdefault(row["layer"], []).append(AlignmentRow(**values))
    return found


MECHANISTIC_PROFILE = latents_stage(
    "profile",
    run_profile,
    "what the latents do in each language",
    ("language_profiles", "latent_profiles"),
    needs=("analyze.behavior",),
    reads=("mechanistic.latent_permutations",),
    version=3,
)
MECHANISTIC_SPECIFICITY = latents_stage(
    "specificity", run_specificity, "latents of both languages, or of one", ("latent_languages",), reads=("mechanistic.latent_permutations",)
)
MECHANISTIC_MATCHING = latents_stage(
    "matching",
    run_matching,
    "which latent of one language is which of the other",
    ("language_matches",),
    needs=("train",),
    reads=("mechanistic.permutations",),
    version=3,
)
MECHANISTIC_CONTRAST = latents_stage(
    "contrast",
    run_contrast,
    "one code for both languages, or two",
    ("language_contrast", "language_verdicts"),
    needs=("mechanistic.alignment",),
    reads=("mechanistic.permutations", "mechanistic.folds"),
    seconds=8.0,
    version=3,
)
