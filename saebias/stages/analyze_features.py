"""`analyze --only features`: how good the dictionaries are, and which latents carry visible gender or the stereotype."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.config.schema import Config
from saebias.errors import NotEnoughData
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.extract import n_layers_of
from saebias.stages.model_access import model_files, spoken

if TYPE_CHECKING:
    from saebias.stages.dictionaries import Dictionary
    from saebias.stages.token_index import TokenIndex
    from saebias.store.arrays import ActivationArray


def run_features(ctx: StageContext) -> None:
    """Quality first (a gate), then visible gender per dictionary, then the stereotype per language, then the sets to steer."""
    from saebias.stages.activation_source import say_caption_is_read
    from saebias.stages.dictionaries import main_dictionaries
    from saebias.stages.dictionary_checks import check_dictionaries
    from saebias.stages.latent_controls import write_latent_controls
    from saebias.stages.stereotype_latents import stereotype_rows
    from saebias.stages.threads import use_threads
    from saebias.stages.token_index import token_index
    from saebias.stages.train import activations_path
    from saebias.store.arrays import ActivationArray

    use_threads(ctx.cfg)
    dictionaries = main_dictionaries(ctx)
    array, index = ActivationArray(activations_path(ctx)), token_index(ctx)
    samples = {row["sample_id"]: row for row in ctx.table("samples").to_pylist()}
    check_dictionaries(ctx, array, index, samples)
    say_caption_is_read(ctx, index.where(index.decision), "visible gender in latents")
    visible = {f"visible-{dictionary.hook.name}": dictionary for dictionary in dictionaries}
    waiting = ctx.pending(list(visible))
    with ctx.reporter.task("testing latents", len(waiting), "dictionaries") as task:
        for name in waiting:
            _write_unit(ctx, name, partial(visible_rows, ctx, visible[name], array, index, samples))
            task.advance()
    write_latent_controls(ctx, array, index, samples)
    for name in ctx.pending([f"stereotype-{language}" for language in spoken(ctx)]):
        _write_unit(ctx, name, partial(stereotype_rows, ctx, dictionaries, name.rpartition("-")[2], samples))


def _write_unit(ctx: StageContext, name: str, compute: Callable[[], tuple[list[dict[str, Any]], list[dict[str, Any]]]]) -> None:
    """Scores and sets of one unit; where the data lack what it needs it is left out, and the report says so."""
    scores: list[dict[str, Any]] = []
    sets: list[dict[str, Any]] = []
    try:
        scores, sets = compute()
    except NotEnoughData as error:
        ctx.reporter.warn(f"{name} is left out: {error}", alarm=True)
    with ctx.unit(name) as out:
        out.rows("feature_scores", scores)
        out.rows("feature_sets", sets)


def visible_rows(
    ctx: StageContext, dictionary: Dictionary, array: ActivationArray, index: TokenIndex, samples: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Per language, every latent's AUROC of women against men at the decision position, and the `analyze.top` latents furthest from chance."""
    import torch

    from saebias.features.contrast import contrast, report_rows
    from saebias.features.selection import assert_disjoint, top_latents
    from saebias.stats.effects import auroc_columns

    decision_rows = index.row[index.decision]
    decision_codes = dictionary.sae.encode(torch.from_numpy(array.read_rows(dictionary.hook, decision_rows))).numpy()

    def codes_at(rows: np.ndarray) -> np.ndarray:
        return decision_codes[np.searchsorted(decision_rows, rows)]

    scores, sets = [], []
    for language in spoken(ctx):
        parts = {split: decision_part(index, samples, language, split, ("F", "M")) for split in ("select", "report")}
        need_both(parts, language)
        assert_disjoint(parts["select"].contexts, parts["report"].contexts, "contexts")
        assert_disjoint(parts["select"].clusters, parts["report"].clusters, "picture groups")
        codes = {split: codes_at(part.rows) for split, part in parts.items()}
        found = contrast(
            codes["select"],
            parts["select"].is_woman,
            parts["select"].clusters,
            seed=ctx.seed(f"{dictionary.hook.name}-{language}"),
            n_permutations=ctx.cfg.analyze.permutations,
        )
        chosen = top_latents(found.auroc_F - 0.5, ctx.cfg.analyze.top, found.live_F)
        reported = {row.latent: row for row in report_rows(found, chosen, codes["report"], parts["report"].is_woman, parts["report"].clusters)}
        auroc_report_F = auroc_columns(codes["report"], parts["report"].is_woman)
        for latent in range(len(found.auroc_F)):
            row = reported.get(latent)
            scores.append(
                _score_row(
                    dictionary,
                    latent,
                    language,
                    value_select=float(found.auroc_F[latent]),
                    p=float(found.p_F[latent]),
                    q=float(found.q_F[latent]),
                    value_report=float(auroc_report_F[latent]),
                    low=None if row is None else row.auroc_low,
                    high=None if row is None else row.auroc_high,
                    firing_rate=float(found.firing_rate_F[latent]),
                    selected=row is not None,
                )
            )
        sets += set_rows(dictionary, language, "visible", chosen, found.auroc_F - 0.5)
    return scores, sets


def need_both(parts: dict[str, Any], language: str) -> None:
    """Raise NotEnoughData unless each part (by split) has two clear images of women and two of men at least."""
    for split, part in parts.items():
        n_women = int(part.is_woman.sum())
        if min(n_women, len(part.is_woman) - n_women) < 2:
            raise NotEnoughData(
                f"analyze: {n_women} clear images of women and {len(part.is_woman) - n_women} of men in {language}, split {split}; each needs two at least: "
                "give more images, or name data.columns.visual_gender"
            )


def _score_row(dictionary: Dictionary, latent: int, language: str, **values: Any) -> dict[str, Any]:
    return {
        "sae_id": dictionary.sae_id,
        "layer": dictionary.hook.layer,
        "latent": latent,
        "language": language,
        "target": "visible",
        "method": "auroc",
        **values,
    }


def set_rows(dictionary: Dictionary, language: str, target: str, chosen: np.ndarray, score_F: np.ndarray) -> list[dict[str, Any]]:
    """The chosen latents as rows of feature_sets, best first."""
    return [
        {
            "set_name": f"{target}/{language}",
            "sae_id": dictionary.sae_id,
            "layer": dictionary.hook.layer,
            "language": language,
            "target": target,
            "rank": rank,
            "latent": int(latent),
            "score": float(score_F[latent]),
        }
        for rank, latent in enumerate(chosen, start=1)
    ]


class DecisionPart:
    """Decision rows of one language and split with their samples' cluster, context and whether a woman is shown; arrays [N]."""

    def __init__(self, rows: np.ndarray, of: list[dict[str, Any]]) -> None:
        """`rows` sorted activation rows, `of` the sample of each."""
        self.rows = rows
        self.clusters = np.array([sample["cluster_id"] for sample in of])
        self.contexts = np.array([sample["context"] or sample["cluster_id"] for sample in of])
        self.is_woman = np.array([sample["visual_gender"] == "F" for sample in of])
        self.samples = of


def decision_part(index: TokenIndex, samples: dict[str, dict[str, Any]], language: str, split: str, genders: tuple[str, ...]) -> DecisionPart:
    """The decision rows of samples that show one of `genders`; raises InputError when there is none."""
    mask = index.decision & (index.language == language) & (index.split == split)
    pairs = [
        (row, samples[sample_id])
        for row, sample_id in zip(index.row[mask], index.sample_id[mask], strict=True)
        if samples[sample_id]["visual_gender"] in genders
    ]
    if not pairs:
        raise NotEnoughData(
            f"analyze: no {language} decision rows of images showing {' or '.join(genders)} in split {split}; give more images or data.continuations that fit"
        )
    return DecisionPart(np.array([row for row, _ in pairs]), [sample for _, sample in pairs])


def _estimate(cfg: Config) -> Estimate:
    # Measured on the demonstration: 2 s a dictionary for tests and quality, 6 ms an ambiguous image and language for its gradients, 6 s for controls and seeds.
    layers = n_layers_of(cfg.extract.layers)
    return Estimate(layers * 4 * 2**20, 900 * 2**20, 14 + layers * 2 + cfg.data.n * cfg.data.ambiguous_share * 0.012)


ANALYZE_FEATURES = Stage(
    name="analyze.features",
    run=run_features,
    help="dictionary quality, and which latents carry gender",
    needs=("prepare", "extract", "train"),
    reads=("model", "analyze.permutations", "analyze.bootstrap", "analyze.top", "train.gate_fvu", "train.gate_dead", "train.allow_failed_gate"),
    tables=("sae_quality", "sae_density", "sae_cross_entropy", "sae_stability", "latent_matches", "latent_controls", "feature_scores", "feature_sets"),
    inputs=model_files,
    estimate=_estimate,
    version=3,
)
