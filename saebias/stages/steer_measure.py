"""Measuring the arms: exact probabilities, side effects and captions, as rows with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.pipeline.stage import StageContext
from saebias.stages.behavior_metrics import none_if_nan
from saebias.stages.steer_setup import Scene, boundary

if TYPE_CHECKING:
    from torch import Tensor

    from saebias.identifiers import HookPoint
    from saebias.steering.arms import Arm, ArmLabel, RandomSets
    from saebias.steering.effects import Draws, EffectRow, Place
    from saebias.steering.outcomes import ClosedSet
    from saebias.vlm.hooks import EditContext, EditFn
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.loading import LoadedModel

# Legend: S copies (arms or sets), E asked tokens, N images.


@dataclass(frozen=True)
class Measured:
    """Arms on one scene: labels, probabilities and the draws of every metric, in the same order."""

    labels: list[ArmLabel]
    closed: list[ClosedSet]
    draws: dict[str, Draws]
    rows: list[EffectRow]
    place: Place


def measure(ctx: StageContext, loaded: LoadedModel, features: ImageFeatures, scene: Scene, hook: HookPoint, arms: Sequence[Arm]) -> Measured:
    """All metrics of the arms (arm A0 first) on a scene: both axes, KL at the decision, cross-entropy off the gender words."""
    from saebias.steering.effects import Place, closed_set_draws, effect_rows, image_mean_draws
    from saebias.steering.scores import Questions, copies_of, score

    copies = copies_of([arm.edit for arm in arms])
    where = ctx.cfg.steer.positions
    scored = score(loaded, features, scene.questions, hook, [copies], where=where, reporter=ctx.reporter)[0]
    closed = scored.closed_set(scene.questions)
    images, draws_seed = scene.images, ctx.seed(f"draws-{scene.language}-{scene.split}")
    draws = closed_set_draws(images, closed, closed[0], seed=draws_seed, n_draws=ctx.cfg.analyze.bootstrap)
    if scored.kl_SN is not None:
        # Rounding can leave a KL of two equal distributions a hair below 0.
        draws["kl_to_baseline"] = image_mean_draws(images, np.maximum(scored.kl_SN, 0.0), seed=draws_seed, n_draws=ctx.cfg.analyze.bootstrap)
    captions = tuple((sample[f"caption_{scene.language}"],) for sample in scene.samples)
    if all(texts[0] for texts in captions):
        plain = Questions(scene.prompt, captions, shared=scene.shared, use_chat_template=scene.template)
        answers = score(loaded, features, plain, hook, [copies], where=where, reporter=ctx.reporter)[0]
        keep_E = off_gender_tokens(ctx, loaded, scene, answers.picture_E, answers.place_E)
        entropy_SN = answers.mean_cross_entropy(keep_E, len(scene.samples))
        draws["cross_entropy_rise"] = image_mean_draws(images, entropy_SN - entropy_SN[0], seed=draws_seed, n_draws=ctx.cfg.analyze.bootstrap)
    place = Place(hook.layer, scene.language, scene.split)
    labels = [arm.label for arm in arms]
    return Measured(labels, closed, draws, effect_rows(labels, draws, place), place)


def off_gender_tokens(ctx: StageContext, loaded: LoadedModel, scene: Scene, picture_E: np.ndarray, place_E: np.ndarray) -> np.ndarray:
    """True for the caption tokens (picture, place) that no evidence of gender lies on, by the labeller's character spans."""
    from saebias.stages.label_access import caption_label
    from saebias.vlm.prompts import caption_tokens

    texts = [sample[f"caption_{scene.language}"] for sample in scene.samples]
    keep: dict[tuple[int, int], bool] = {}
    for number, text in enumerate(texts):
        ids = caption_tokens(loaded, boundary(loaded, scene.prompt, template=scene.template), [text])[0]
        spans = [(item.start, item.end) for item in caption_label(ctx.cfg, text, scene.language).evidence]
        ends = [len(loaded.tokenizer.decode(ids[: place + 1], skip_special_tokens=True).strip()) for place in range(len(ids))]
        for place, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            keep[number, place] = not any(start < span_end and end > span_start for span_start, span_end in spans)
    return np.array([keep[picture, place] for picture, place in zip(picture_E.tolist(), place_E.tolist(), strict=True)])


def measure_sets(
    ctx: StageContext, loaded: LoadedModel, features: ImageFeatures, scene: Scene, hook: HookPoint, baseline: ClosedSet, groups: Sequence[RandomSets]
) -> list[dict[str, np.ndarray]]:
    """Per group of matched random sets, the value of every metric of both axes for each set."""
    from saebias.steering.effects import closed_set_values
    from saebias.steering.scores import copies_of_sets, score

    copies = [copies_of_sets(group) for group in groups]
    scored = score(loaded, features, scene.questions, hook, copies, where=ctx.cfg.steer.positions, reporter=ctx.reporter)
    return [closed_set_values(scene.images, found.closed_set(scene.questions), baseline) for found in scored]


def table_rows(rows: Sequence[EffectRow]) -> list[dict[str, Any]]:
    """Effect rows as rows of steering_effects, NaN as null."""
    found = []
    for row in rows:
        values = asdict(row)
        for name in ("value", "low", "high", "p"):
            values[name] = none_if_nan(values[name])
        values["note"] = row.note or None
        if values["value"] is None and values["note"] is None:
            values["note"] = "cannot be computed on these images"
        found.append(values)
    return found


def steered_captions(
    ctx: StageContext, loaded: LoadedModel, features: ImageFeatures, scene: Scene, hook: HookPoint, arms: Sequence[Arm]
) -> tuple[list[dict[str, Any]], list[EffectRow], list[str]]:
    """Greedy captions under each arm beside the baseline's, side effects of the captions as rows, and the alarms they raise."""
    from saebias.stages.label_access import caption_label
    from saebias.steering.alarms import caption_alarms
    from saebias.steering.arms import as_hook
    from saebias.steering.effects import Place, effect_rows, image_mean_draws
    from saebias.vlm.forward import Edit
    from saebias.vlm.generate import generate_captions

    def write(edit: Edit | None) -> list[str]:
        longest = ctx.cfg.model.max_new_tokens
        texts = [scene.prompt] * len(scene.samples)
        return generate_captions(loaded, features, texts, max_new_tokens=longest, edit=edit, use_chat_template=scene.template)

    baseline = write(None)
    decides_B = decision_positions(loaded, features, scene)
    written: dict[ArmLabel, list[str]] = {}
    rows: list[dict[str, Any]] = []
    with ctx.reporter.task(f"captions under each arm ({scene.language})", len(arms), "arms") as task:
        for arm in arms:
            texts = write(Edit({hook: _at_positions(ctx, as_hook(arm.edit), decides_B)}, where="after_image"))
            written[arm.label] = texts
            for sample, text, before in zip(scene.samples, texts, baseline, strict=True):
                label = caption_label(ctx.cfg, text, scene.language)
                rows.append(
                    {
                        "arm": arm.arm,
                        "target": arm.target,
                        "strength": arm.strength,
                        "sample_id": sample["sample_id"],
                        "language": scene.language,
                        "text": text,
                        "baseline": before,
                        "label": label.label,
                        "explicit": label.explicit,
                        "n_words": label.words,
                    }
                )
            task.advance()
    labels = list(written)
    seed = ctx.seed(f"captions-{scene.language}")
    changed = np.array([[float(a != b) for a, b in zip(written[label], baseline, strict=True)] for label in labels])
    draws = {"captions_changed": image_mean_draws(scene.images, changed, seed=seed, n_draws=ctx.cfg.analyze.bootstrap)}
    effects = effect_rows(labels, draws, Place(hook.layer, scene.language, scene.split))
    effects += _text_rows(ctx, written, baseline, scene, Place(hook.layer, scene.language, scene.split))
    return rows, effects, caption_alarms(written, baseline)


def decision_positions(loaded: LoadedModel, features: ImageFeatures, scene: Scene) -> np.ndarray:
    """Per image the position (from 0, without padding) whose next token decides the gender."""
    from saebias.vlm.inputs import build_inputs

    inputs = build_inputs(loaded, features, [scene.prompt] * len(scene.samples), use_chat_template=scene.template)
    return inputs.prompt_length_B - 1 + np.array(scene.shared)


def _at_positions(ctx: StageContext, change: EditFn, decides_B: np.ndarray) -> EditFn:
    """The edit where the configuration says: at the decision position of each row alone, or wherever the pass allows."""
    import torch

    if ctx.cfg.steer.positions == "after_image":
        return change
    positions = torch.from_numpy(decides_B)

    def at_decision(x_BTD: Tensor, context: EditContext) -> Tensor:
        is_there = context.position_BT == positions.to(context.position_BT.device)[context.row_B][:, None]
        mask_BT = context.mask_BT & is_there
        return change(x_BTD, replace(context, mask_BT=mask_BT)) if bool(mask_BT.any()) else x_BTD

    return at_decision


def _text_rows(ctx: StageContext, written: Mapping[ArmLabel, Sequence[str]], baseline: Sequence[str], scene: Scene, place: Place) -> list[EffectRow]:
    """Length ratio of all captions, and the share of captions whose gender marks agree (of those with two marks or more)."""
    from saebias.corpus.labels import agreement_consistent
    from saebias.stages.label_access import caption_label
    from saebias.stats.shares import share_estimate
    from saebias.steering.alarms import length_drift
    from saebias.steering.effects import EffectRow

    images = scene.images
    rows = []
    for label in written:
        head = (label.arm, label.name, label.target, place.layer, place.language, place.split, label.strength)
        counts = (len(images.image_N), len(np.unique(images.cluster_N)))
        ratio = 1 + length_drift(list(written[label]), list(baseline))
        rows.append(
            EffectRow(*head, "length_ratio", ratio, float("nan"), float("nan"), None, *counts, "words of all captions over the baseline's; no interval")
        )
        agrees = [agreement_consistent(caption_label(ctx.cfg, text, scene.language)) for text in written[label]]
        kept = np.array([value is not None for value in agrees])
        if kept.any():
            found = share_estimate(np.array([bool(value) for value in agrees])[kept], images.cluster_N[kept])
            rows.append(EffectRow(*head, "agreement_consistency", found.value, found.low, found.high, None, int(kept.sum()), found.n_clusters, found.note))
    return rows
