"""`mechanistic --only interactions`: pairs of the chosen latents, by firing together and by ablating one, the other, and both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import InputError, NotEnoughData
from saebias.pipeline.stage import StageContext
from saebias.stages.activation_source import nan_to_null
from saebias.stages.mechanistic_codes import HeldOut, LayerCodes, held_out, latents_stage, layer_codes
from saebias.stages.mechanistic_latents import Tables, run_layers
from saebias.stages.model_access import refuse_text_only, spoken

if TYPE_CHECKING:
    from saebias.identifiers import FeatureRef
    from saebias.mechanistic.interaction import PairRow
    from saebias.steering.edits import Edit

CAUSAL_LATENTS = 4
"""Latents whose pairs are ablated on the model: the strongest of the language's visible set."""


def run_interactions(ctx: StageContext) -> None:
    """Per layer and language the pairs of the shortlist; on one layer per language the causal pairs."""
    from saebias.identifiers import FeatureRef
    from saebias.mechanistic.interaction import InteractionPatternAnalyzer

    tool = InteractionPatternAnalyzer()
    parts = cache(lambda: held_out(ctx, spoken(ctx)))
    shortlists = _shortlists(ctx)

    def compute(layer: LayerCodes) -> Tables:
        chosen = shortlists.get(layer.layer, {})
        if len(chosen) < 2:
            raise NotEnoughData(f"mechanistic: {len(chosen)} chosen latents in layer {layer.layer}, no pair; see what analyze left out")
        features = [FeatureRef(layer.sae_id, latent) for latent in chosen]
        edges, nodes = [], []
        for language, rows in parts().items():
            # The latents were chosen on select, so their pairs are looked at on report.
            seen = rows.where((rows.split == "report") & np.isin(rows.gender, ("F", "M")))
            codes = layer.at(seen.row)
            try:
                found = tool.read(features, type(codes)(codes.matrix[:, list(chosen)]), seen.gender, seen.cluster, seed=ctx.seed(f"{layer.hook}-{language}"))
            except InputError as error:
                raise NotEnoughData(f"mechanistic: {error}") from None
            edges += [_edge(layer, language, row) for row in found]
            nodes += _nodes(layer, language, chosen, seen, tool.graph(found))
        return {"latent_pairs": edges, "latent_nodes": nodes}

    run_layers(ctx, "pairing latents", compute)
    for name in ctx.pending([f"causal-{language}" for language in spoken(ctx)]):
        rows: list[dict[str, Any]] = []
        try:
            rows = causal_rows(ctx, name.rpartition("-")[2])
        except NotEnoughData as error:
            ctx.reporter.warn(f"causal pairs are left out: {error}", alarm=True)
        with ctx.unit(name) as out:
            out.rows("causal_pairs", rows)


def _shortlists(ctx: StageContext) -> dict[int, dict[int, list[str]]]:
    """Per layer the latents looked at, each with the sets that it was chosen into: the first `pair_latents` of every set."""
    found: dict[int, dict[int, list[str]]] = {}
    known = {item.sae_id for item in layer_codes(ctx)}
    for row in sorted(ctx.table("feature_sets").to_pylist(), key=lambda row: (row["layer"], row["set_name"], row["rank"])):
        if row["sae_id"] in known and row["rank"] <= ctx.cfg.mechanistic.pair_latents:
            found.setdefault(row["layer"], {}).setdefault(row["latent"], []).append(row["set_name"])
    return {layer: dict(sorted(latents.items())) for layer, latents in found.items()}


def _edge(layer: LayerCodes, language: str, row: PairRow) -> dict[str, Any]:
    values = nan_to_null({name: value for name, value in asdict(row).items() if name not in ("a", "b")})
    # Latents that never fire together have a mutual information of minus infinity, which no table should hold.
    if row.n_both == 0:
        values |= {"pmi": None, "note": "; ".join(filter(None, ["never fire together", row.note]))}
    return {"sae_id": layer.sae_id, "layer": layer.layer, "language": language, "latent_a": row.a.index, "latent_b": row.b.index, "split": "report", **values}


def _nodes(layer: LayerCodes, language: str, chosen: dict[int, list[str]], seen: HeldOut, graph: dict[FeatureRef, list[FeatureRef]]) -> list[dict[str, Any]]:
    fires_NK = layer.at(seen.row).columns(np.array(list(chosen))) > 0
    degree = {feature.index: len(others) for feature, others in graph.items()}
    return [
        {
            "sae_id": layer.sae_id,
            "layer": layer.layer,
            "language": language,
            "latent": latent,
            "sets": ", ".join(sets),
            "firing_women": float(fires_NK[seen.gender == "F", place].mean()),
            "firing_men": float(fires_NK[seen.gender == "M", place].mean()),
            "degree": degree.get(latent, 0),
        }
        for place, (latent, sets) in enumerate(chosen.items())
    ]


def causal_rows(ctx: StageContext, language: str) -> list[dict[str, Any]]:
    """Ablations of single latents and pairs on report images: the departure of the joint effect on the gender gap from the sum of the two."""
    from functools import partial

    from saebias.mechanistic.interaction import causal_pair
    from saebias.stages.dictionaries import main_dictionaries
    from saebias.steering.edits import ablate_latents, hook_that_does_nothing

    refuse_text_only(ctx.cfg)
    layer, features = _causal_choice(ctx, language)
    dictionary = next(item for item in main_dictionaries(ctx) if item.sae_id == features[0].sae_id)
    toward_F = _mean_codes(ctx, language, layer)
    singles = [(feature.index,) for feature in features]
    sets = [*singles, *combinations([feature.index for feature in features], 2)]
    edits = [hook_that_does_nothing, *(partial(ablate_latents, sae=dictionary.sae, indices=list(chosen), toward_F=toward_F) for chosen in sets)]
    gap_SN, clusters_N, split = _gaps(ctx, language, dictionary.hook, edits)
    gap_of = dict(zip([(), *sets], gap_SN, strict=True))
    rows = []
    for a, b in combinations(features, 2):
        gaps = (gap_of[()], gap_of[a.index,], gap_of[b.index,], gap_of[a.index, b.index])
        found = asdict(causal_pair(a, b, *gaps, clusters_N, seed=ctx.seed(f"causal-{language}")))
        values = nan_to_null({name: value for name, value in found.items() if name not in ("a", "b")})
        place = {"sae_id": dictionary.sae_id, "layer": layer, "language": language, "latent_a": a.index, "latent_b": b.index, "split": split}
        rows.append({**place, **values, "note": None if values["low"] is not None else "one picture group: no interval"})
    return rows


def _causal_choice(ctx: StageContext, language: str) -> tuple[int, list[FeatureRef]]:
    """The layer whose visible set scores highest on select, and its first latents; raises NotEnoughData without two of them."""
    from saebias.identifiers import FeatureRef

    by_layer: dict[int, list[dict[str, Any]]] = {}
    known = {item.sae_id for item in layer_codes(ctx)}
    for row in sorted(ctx.table("feature_sets").to_pylist(), key=lambda row: row["rank"]):
        if row["set_name"] == f"visible/{language}" and row["sae_id"] in known:
            by_layer.setdefault(row["layer"], []).append(row)
    if not by_layer:
        raise NotEnoughData(f"mechanistic: no {language} set of latents of visible gender; see what analyze left out")
    # Where several layers score alike the earliest leaves the most computation for an interaction to happen in.
    layer = max(sorted(by_layer), key=lambda layer: float(np.mean([abs(row["score"]) for row in by_layer[layer]])))
    features = [FeatureRef(row["sae_id"], row["latent"]) for row in by_layer[layer][:CAUSAL_LATENTS]]
    if len(features) < 2:
        raise NotEnoughData(f"mechanistic: one {language} latent of visible gender in layer {layer}; a pair needs two")
    return layer, features


def _mean_codes(ctx: StageContext, language: str, layer: int) -> Any:
    """Mean code of every latent at decision positions of the select split: what an ablated latent is moved to."""
    import torch

    rows = held_out(ctx, [language])[language]
    select = rows.where(rows.split == "select")
    codes = next(item for item in layer_codes(ctx) if item.layer == layer).at(select.row)
    return torch.from_numpy(codes.mean_F(np.ones(codes.n_rows, dtype=bool))).float()


def _gaps(ctx: StageContext, language: str, hook: Any, edits: Sequence[Edit]) -> tuple[np.ndarray, np.ndarray, str]:
    """(gap [edits, images] in nats, picture groups, split): log P(F) - log P(M) of the closed set under each edit at the decision position."""
    from saebias.stages.model_access import closed_sets, features_of, open_model, prompts, refuse_text_only, samples_of
    from saebias.stages.steer_setup import make_scene
    from saebias.steering.scores import copies_of, score

    refuse_text_only(ctx.cfg)
    loaded = open_model(ctx.cfg)
    n_clear = ctx.cfg.mechanistic.causal_images // 2
    limits = ctx.cfg.mechanistic.causal_images - n_clear, n_clear
    template = ctx.cfg.model.chat_template
    try:
        scene = make_scene(
            loaded, samples_of(ctx), closed_sets(ctx), prompts(ctx.cfg)[language], language, "report", limits, seed=ctx.seed("images"), template=template
        )
    except InputError as error:
        raise NotEnoughData(f"mechanistic: {error}") from None
    scored = score(loaded, features_of(loaded, scene.samples), scene.questions, hook, [copies_of(edits)], where="decision")[0]
    closed = scored.closed_set(scene.questions)
    tiny = np.finfo(np.float64).tiny
    gap_SN = np.stack([np.log(np.maximum(item.female, tiny)) - np.log(np.maximum(item.male, tiny)) for item in closed])
    return gap_SN, scene.images.cluster_N, scene.split


MECHANISTIC_INTERACTIONS = latents_stage(
    "interactions",
    run_interactions,
    "which latents work together",
    ("latent_pairs", "latent_nodes", "causal_pairs"),
    needs=("train",),
    reads=("model", "mechanistic.pair_latents", "mechanistic.causal_images"),
    seconds=12.0,
    version=3,
)
