"""Which latents carry the stereotype: between-context attribution on ambiguous images, chosen on some contexts and measured again on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import NotEnoughData
from saebias.pipeline.stage import StageContext
from saebias.stages.decision_gradients import Gradients, decision_gradients
from saebias.stages.model_access import closed_set_of, refuse_text_only

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.stages.dictionaries import Dictionary
    from saebias.vlm.images import ImageFeatures

# Legend: N images, D model dimension, F latents.


def stereotype_rows(
    ctx: StageContext, dictionaries: Sequence[Dictionary], language: str, samples: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Score of every latent on select contexts and on report contexts, and the `analyze.top` latents with the largest score on select.

    The score is the latent's part of the variance of the gap over contexts (nats squared); see saebias.features.attribution.between_context.
    """
    from saebias.features.attribution import between_context
    from saebias.features.selection import assert_disjoint, top_latents
    from saebias.stages.analyze_features import set_rows

    found = {split: ambiguous_gradients(ctx, [d.hook for d in dictionaries], language, samples, split) for split in ("select", "report")}
    contexts = {split: np.array([sample["context"] for sample in part.sample]) for split, part in found.items()}
    assert_disjoint(contexts["select"], contexts["report"], "contexts")
    for split, names in contexts.items():
        if len(set(names)) < 3:
            raise NotEnoughData(f"analyze: {len(set(names))} contexts with ambiguous images in split {split}; variance over contexts needs three at least")
    scores, sets = [], []
    for dictionary in dictionaries:
        # One reference for both splits: what the intervention puts in a latent's place is known from select alone.
        reference_F, firing_F = _mean_codes(dictionary, found["select"])
        attribution = {split: _attribution(dictionary, found[split], reference_F) for split in found}
        parts = {split: between_context(attribution[split], found[split].gap_N, contexts[split]) for split in found}
        chosen = top_latents(parts["select"].score_F, ctx.cfg.analyze.top, firing_F > 0)
        tested = _tested(ctx, dictionary, found, attribution, contexts, chosen)
        told = "; ".join(f"{split} {_slope(ctx, part, attribution[split])}" for split, part in found.items())
        ctx.reporter.info(
            f"stereotype ({language}) {dictionary.hook.name}: slope of the latents' parts on the gap over contexts (1: they make all of it): {told}"
        )
        scores += _score_rows(dictionary, language, parts, firing_F, tested)
        sets += set_rows(dictionary, language, "stereotype", chosen, parts["select"].score_F)
    return scores, sets


def _slope(ctx: StageContext, part: Gradients, attribution_NF: np.ndarray) -> str:
    from saebias.features.context_tests import explained_slope

    contexts, clusters = (np.array([sample[column] for sample in part.sample]) for column in ("context", "cluster_id"))
    found = explained_slope(attribution_NF, part.gap_N, contexts, clusters, seed=ctx.seed("slope"))
    return f"not known, {found.note}" if np.isnan(found.value) else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


@dataclass(frozen=True)
class Tested:
    """p and q of every latent on select, and the interval of the chosen ones on report."""

    p_F: np.ndarray
    q_F: np.ndarray
    chosen: set[int]
    interval: dict[int, tuple[float, float]]
    """Empty where a context of report has one drawing only, so that its noise is not known."""


def _tested(
    ctx: StageContext,
    dictionary: Dictionary,
    found: dict[str, Gradients],
    attribution: dict[str, np.ndarray],
    contexts: dict[str, np.ndarray],
    chosen: np.ndarray,
) -> Tested:
    from saebias.features.context_tests import between_context_p, score_intervals
    from saebias.stats.multiple import benjamini_hochberg

    clusters = {split: np.array([sample["cluster_id"] for sample in part.sample]) for split, part in found.items()}
    seed = ctx.seed(f"contexts-{dictionary.hook.name}")
    n_permutations = ctx.cfg.analyze.permutations
    p_F = between_context_p(attribution["select"], found["select"].gap_N, contexts["select"], clusters["select"], seed=seed, n_permutations=n_permutations)
    several = {name for name in set(contexts["report"]) if len(set(clusters["report"][contexts["report"] == name])) > 1}
    kept = np.isin(contexts["report"], sorted(several))
    interval: dict[int, tuple[float, float]] = {}
    if len(several) >= 3 and kept.all():
        of = score_intervals(
            attribution["report"][:, chosen], found["report"].gap_N, contexts["report"], clusters["report"], seed=seed, n_draws=ctx.cfg.analyze.bootstrap
        )
        interval = {int(latent): (float(low), float(high)) for latent, low, high in zip(chosen, of.low_F, of.high_F, strict=True)}
    return Tested(p_F, benjamini_hochberg(p_F), set(chosen.tolist()), interval)


def _score_rows(dictionary: Dictionary, language: str, parts: dict[str, Any], firing_F: np.ndarray, tested: Tested) -> list[dict[str, Any]]:
    none = (None, None)
    return [
        {
            "sae_id": dictionary.sae_id,
            "layer": dictionary.hook.layer,
            "latent": latent,
            "language": language,
            "target": "stereotype",
            "method": "between_context_attribution",
            "value_select": float(parts["select"].score_F[latent]),
            "p": float(tested.p_F[latent]),
            "q": float(tested.q_F[latent]),
            "value_report": float(parts["report"].score_F[latent]),
            "low": tested.interval.get(latent, none)[0],
            "high": tested.interval.get(latent, none)[1],
            "firing_rate": float(firing_F[latent]),
            "selected": latent in tested.chosen,
        }
        for latent in range(len(firing_F))
    ]


def ambiguous_gradients(ctx: StageContext, hooks: Sequence[HookPoint], language: str, samples: dict[str, dict[str, Any]], split: str) -> Gradients:
    """Gaps, activations and gradients of the ambiguous images of one split; raises InputError when there is none with a closed set."""
    from saebias.stages.model_access import closed_sets, features_of, open_model, prompts

    refuse_text_only(ctx.cfg)
    sets, prompt = closed_sets(ctx), prompts(ctx.cfg)[language]
    wanted = [
        s for s in sorted(samples.values(), key=lambda s: s["sample_id"]) if s["split"] == split and s["visual_gender"] == "A" and s["context"] is not None
    ]
    served = [(sample, closed) for sample in wanted if (closed := closed_set_of(sets, sample["context"], language)) is not None]
    if not served:
        raise NotEnoughData(
            f"analyze: no ambiguous image with a context and {language} continuations in split {split}; give data.columns.context and data.continuations"
        )
    loaded = open_model(ctx.cfg)
    asked = [sample for sample, _ in served]

    def pictures(numbers: list[int]) -> ImageFeatures:
        return features_of(loaded, [asked[number] for number in numbers])

    return decision_gradients(ctx, loaded, hooks, asked, [closed for _, closed in served], pictures, prompt, f"gradients ({language}, {split})")


def _codes(dictionary: Dictionary, x_ND: np.ndarray) -> np.ndarray:
    import torch

    return dictionary.sae.encode(torch.from_numpy(x_ND)).numpy()


def _mean_codes(dictionary: Dictionary, found: Gradients) -> tuple[np.ndarray, np.ndarray]:
    codes_NF = _codes(dictionary, found.x_ND[dictionary.hook])
    return codes_NF.mean(0), (codes_NF > 0).mean(0)


def _attribution(dictionary: Dictionary, found: Gradients, reference_F: np.ndarray) -> np.ndarray:
    """a_NF per image: how much the gap would fall, to first order, if the latent were set to its mean at the decision position."""
    from saebias.features.attribution import latent_attribution

    grad_NF = found.grad_ND[dictionary.hook] @ dictionary.sae.W_dec_FD.numpy().T
    return latent_attribution(grad_NF, _codes(dictionary, found.x_ND[dictionary.hook]), reference_F)
