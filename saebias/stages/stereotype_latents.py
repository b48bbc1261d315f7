"""Which latents carry the stereotype: between-context attribution on ambiguous images, chosen on some contexts and measured again on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import InputError
from saebias.pipeline.stage import StageContext
from saebias.stages.model_access import closed_set_of

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.stages.dictionaries import Dictionary

# Legend: N images, T text positions up to the decision, D model dimension, F latents.


@dataclass(frozen=True)
class Gradients:
    """The gap of each image and, per hook point, activations and gradients at the text positions behind the picture, summed over later."""

    gap_N: np.ndarray
    sample: list[dict[str, Any]]
    x_ND: dict[HookPoint, np.ndarray]
    """Activations of all text positions of all images, [positions, D]."""
    grad_ND: dict[HookPoint, np.ndarray]
    image_of_row: np.ndarray
    """Which image each position belongs to."""


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
    scores, sets = [], []
    for dictionary in dictionaries:
        # One reference for both splits: what the intervention puts in a latent's place is known from select alone.
        reference_F, firing_F = _mean_codes(dictionary, found["select"])
        parts = {split: between_context(_attribution(dictionary, found[split], reference_F), found[split].gap_N, contexts[split]) for split in found}
        chosen = top_latents(parts["select"].score_F, ctx.cfg.analyze.top, firing_F > 0)
        ctx.reporter.info(
            f"stereotype ({language}) {dictionary.hook.name}: latents explain {parts['select'].explained:.2f} of the variance over contexts"
            f" on select, {parts['report'].explained:.2f} on report"
        )
        scores += _score_rows(dictionary, language, parts, firing_F, set(chosen.tolist()))
        sets += set_rows(dictionary, language, "stereotype", chosen, parts["select"].score_F)
    return scores, sets


def _score_rows(dictionary: Dictionary, language: str, parts: dict[str, Any], firing_F: np.ndarray, chosen: set[int]) -> list[dict[str, Any]]:
    return [
        {
            "sae_id": dictionary.sae_id,
            "layer": dictionary.hook.layer,
            "latent": latent,
            "language": language,
            "target": "stereotype",
            "method": "between_context_attribution",
            "value_select": float(parts["select"].score_F[latent]),
            "p": None,
            "q": None,
            "value_report": float(parts["report"].score_F[latent]),
            "low": None,
            "high": None,
            "firing_rate": float(firing_F[latent]),
            "selected": latent in chosen,
        }
        for latent in range(len(firing_F))
    ]


def ambiguous_gradients(ctx: StageContext, hooks: Sequence[HookPoint], language: str, samples: dict[str, dict[str, Any]], split: str) -> Gradients:
    """Gaps, activations and gradients of the ambiguous images of one split; raises InputError when there is none with a closed set."""
    from saebias.stages.model_access import closed_sets, features_of, open_model, prompts
    from saebias.vlm.gradients import gap_gradients
    from saebias.vlm.inputs import build_inputs

    sets, prompt = closed_sets(ctx), prompts(ctx.cfg)[language]
    wanted = [
        s for s in sorted(samples.values(), key=lambda s: s["sample_id"]) if s["split"] == split and s["visual_gender"] == "A" and s["context"] is not None
    ]
    served = [(sample, chosen) for sample in wanted if (chosen := closed_set_of(sets, sample["context"], language)) is not None]
    if not served:
        raise InputError(
            f"analyze: no ambiguous image with a context and {language} continuations in split {split}; give data.columns.context and data.continuations"
        )
    loaded = open_model(ctx.cfg)
    gaps: list[np.ndarray] = []
    x: dict[HookPoint, list[np.ndarray]] = {hook: [] for hook in hooks}
    grad: dict[HookPoint, list[np.ndarray]] = {hook: [] for hook in hooks}
    owner: list[np.ndarray] = []
    with ctx.reporter.task(f"gradients ({language}, {split})", len(served), "images") as task:
        for start in range(0, len(served), ctx.cfg.runtime.batch_size):
            batch = served[start : start + ctx.cfg.runtime.batch_size]
            inputs = build_inputs(
                loaded, features_of(loaded, [sample for sample, _ in batch]), [prompt] * len(batch), use_chat_template=ctx.cfg.model.chat_template
            )
            result = gap_gradients(loaded, inputs, [list(c.female) for _, c in batch], [list(c.male) for _, c in batch], list(hooks))
            first = result[hooks[0]]
            text_BT = first.inputs.after_image_BT.cpu().numpy() & (first.inputs.position_BT.cpu().numpy() >= 0)
            gaps.append(first.gap_B)
            owner.append(np.nonzero(text_BT)[0] + start)
            for hook in hooks:
                x[hook].append(result[hook].x_BTD.float().cpu().numpy()[text_BT])
                grad[hook].append(result[hook].grad_BTD.float().cpu().numpy()[text_BT])
            task.advance(len(batch))
    return Gradients(
        np.concatenate(gaps),
        [sample for sample, _ in served],
        {hook: np.concatenate(parts) for hook, parts in x.items()},
        {hook: np.concatenate(parts) for hook, parts in grad.items()},
        np.concatenate(owner),
    )


def _codes(dictionary: Dictionary, x_ND: np.ndarray) -> np.ndarray:
    import torch

    return dictionary.sae.encode(torch.from_numpy(x_ND)).numpy()


def _mean_codes(dictionary: Dictionary, found: Gradients) -> tuple[np.ndarray, np.ndarray]:
    codes_NF = _codes(dictionary, found.x_ND[dictionary.hook])
    return codes_NF.mean(0), (codes_NF > 0).mean(0)


def _attribution(dictionary: Dictionary, found: Gradients, reference_F: np.ndarray) -> np.ndarray:
    """a_NF per image: the attribution of each latent summed over the text positions that an intervention edits."""
    from saebias.features.attribution import latent_attribution

    W_dec_FD = dictionary.sae.W_dec_FD.numpy()
    total_NF = np.zeros((len(found.gap_N), len(reference_F)), dtype=np.float32)
    step = 2048
    for start in range(0, len(found.image_of_row), step):
        rows = slice(start, start + step)
        a_NF = latent_attribution(found.grad_ND[dictionary.hook][rows] @ W_dec_FD.T, _codes(dictionary, found.x_ND[dictionary.hook][rows]), reference_F)
        # Rows of one image lie side by side, so their sums are segments.
        owner = found.image_of_row[rows]
        starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
        total_NF[owner[starts]] += np.add.reduceat(a_NF, starts, axis=0)
    return total_NF
