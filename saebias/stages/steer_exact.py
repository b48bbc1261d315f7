"""The exact effect of single latents beside the scores that chose them: on select, at the layer steered, before anything is reported."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import InputError, NotEnoughData
from saebias.stages.behavior_metrics import none_if_nan
from saebias.stages.decision_gradients import Gradients, decision_gradients

if TYPE_CHECKING:
    from torch import Tensor

    from saebias.features.verification import Agreement, Shortlist
    from saebias.stages.dictionaries import Dictionary
    from saebias.stages.steer import Bench
    from saebias.stages.steer_setup import Scene
    from saebias.vlm.images import ImageFeatures

# Legend: N images, K verified latents, F latents, D model dimension.
CHOSEN_BY = {"stereotype": "between_context_attribution", "visible": "auroc"}


def exact_tables(bench: Bench, layer: int, language: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of latent_effects and estimate_checks for both targets of a language.

    Exact: each latent alone is set to its mean on ambiguous images at the decision position, error kept, and the gap log P(F) - log P(M) is computed
    again; the effect on the target is formed from the change of the gap just as the attribution forms it from gradient times change.
    """
    import torch

    from saebias.features.verification import agreements

    dictionary, scene = bench.dictionaries[layer], bench.main_scene(language, "select")
    features = bench.features(scene)
    known = decision_gradients(
        bench.ctx, bench.loaded, [dictionary.hook], scene.samples, scene.sets, features.take, scene.prompt, f"gradients ({language}, select)"
    )
    if not scene.images.ambiguous_N.any():
        raise NotEnoughData("steer: no ambiguous image to take the mean of a latent from")
    # What a latent is set to: its mean at the decision position of the ambiguous images.
    reference_F = dictionary.sae.encode(torch.from_numpy(known.x_ND[dictionary.hook][scene.images.ambiguous_N])).mean(0)
    effects: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    for target, method in CHOSEN_BY.items():
        scores = _chosen_by(bench, dictionary, language, target, method)
        if scores is None:
            continue
        value_F, live_F = scores
        chosen = _shortlist(bench, value_F, live_F, f"{target}-{language}")
        of_N = _images_of(target, scene)
        part, gap_N = _only(scene, of_N), known.gap_N[of_N]
        change_NK = _change(bench, dictionary, part, features.take(np.flatnonzero(of_N).tolist()), reference_F, chosen.latent_K)
        attribution_NK = _attribution(dictionary, known, reference_F, chosen.latent_K)[of_N]
        exact_K = _on_target(target, change_NK, gap_N, part)
        estimates = {method: value_F[chosen.latent_K], "attribution on the same images": _on_target(target, attribution_NK, gap_N, part)}
        label = {"sae_id": dictionary.sae_id, "layer": layer, "language": language, "target": target}
        n_images = len(part.samples)
        effects += [
            {**label, "latent": int(latent), "drawn_as": "top" if top else "random", "exact": exact, "attribution": near, "chosen_by": score}
            for latent, top, exact, near, score in zip(
                chosen.latent_K, chosen.is_top_K, exact_K, estimates["attribution on the same images"], estimates[method], strict=True
            )
        ]
        # Of so many, chance finds a quarter at most.
        found = agreements(estimates, exact_K, max(1, min(bench.ctx.cfg.analyze.top, len(exact_K) // 4)))
        checks += [{**label, **_row(row), "n_images": n_images} for row in found]
        bench.ctx.reporter.info(f"exact effects of {len(exact_K)} latents ({language}, {target}): " + "; ".join(map(_sentence, found)))
    return {"latent_effects": effects, "estimate_checks": checks}


def _row(found: Agreement) -> dict[str, Any]:
    values = {name: none_if_nan(value) if isinstance(value, float) else value for name, value in asdict(found).items()}
    return {**values, "note": found.note or None}


def _sentence(found: Agreement) -> str:
    values = {"rank correlation": found.rank_correlation, f"recall@{found.k}": found.recall}
    return f"{found.method} " + ", ".join(f"{name} {'not known' if np.isnan(value) else f'{value:.2f}'}" for name, value in values.items())


def _images_of(target: str, scene: Scene) -> np.ndarray:
    ambiguous_N = scene.images.ambiguous_N
    return ambiguous_N if target == "stereotype" else ~ambiguous_N


def _only(scene: Scene, keep_N: np.ndarray) -> Scene:
    """The scene with the images marked True."""
    numbers = np.flatnonzero(keep_N).tolist()
    samples, sets, shared = ([column[number] for number in numbers] for column in (scene.samples, scene.sets, scene.shared))
    return replace(scene, samples=samples, sets=sets, shared=tuple(shared))


def _on_target(target: str, change_NK: np.ndarray, gap_N: np.ndarray, scene: Scene) -> np.ndarray:
    """What changes of the gap mean for a target [K]: part of its variance over contexts, or of its difference between women and men."""
    from saebias.features.attribution import between_context, visible_gender

    if target == "stereotype":
        return between_context(change_NK, gap_N, scene.images.context_N).score_F
    return visible_gender(change_NK, scene.images.gender_N == "F")


def _chosen_by(bench: Bench, dictionary: Dictionary, language: str, target: str, method: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The score that chooses latents for a target, as a distance from no association, and which latents fire; None where it was left out."""
    rows = [
        row for row in bench.feature_scores if (row["sae_id"], row["language"], row["target"], row["method"]) == (dictionary.sae_id, language, target, method)
    ]
    if not rows:
        return None
    value_F, live_F = np.zeros(dictionary.sae.spec.n_latents), np.zeros(dictionary.sae.spec.n_latents, dtype=bool)
    for row in rows:
        value_F[row["latent"]] = row["value_select"] - (0.5 if method == "auroc" else 0.0)
        live_F[row["latent"]] = row["firing_rate"] > 0
    return value_F, live_F


def _shortlist(bench: Bench, value_F: np.ndarray, live_F: np.ndarray, name: str) -> Shortlist:
    from saebias.features.verification import shortlist

    half = bench.ctx.cfg.steer.verified // 2
    usable = int((live_F & (value_F != 0)).sum())
    return shortlist(value_F, live_F, min(half, usable), half, seed=bench.ctx.seed(f"verified-{name}"))


def _attribution(dictionary: Dictionary, known: Gradients, reference_F: Tensor, latent_K: np.ndarray) -> np.ndarray:
    import torch

    from saebias.features.attribution import latent_attribution

    codes_NK = dictionary.sae.encode(torch.from_numpy(known.x_ND[dictionary.hook]))[:, torch.from_numpy(latent_K)].numpy()
    grad_NK = known.grad_ND[dictionary.hook] @ dictionary.sae.W_dec_FD[torch.from_numpy(latent_K)].numpy().T
    return latent_attribution(grad_NK, codes_NK, reference_F.numpy()[latent_K])


def _change(bench: Bench, dictionary: Dictionary, scene: Scene, features: ImageFeatures, reference_F: Tensor, latent_K: np.ndarray) -> np.ndarray:
    """gap - gap with the latent set to its reference [N, K]: how much the gap falls when it is taken out."""
    import torch

    from saebias.steering import edits
    from saebias.steering.scores import Copies, score

    sets_K1 = torch.from_numpy(latent_K)[:, None]

    def take_out(x_BQD: Tensor, mask_BQ: Tensor, which: slice) -> Tensor:
        return edits.ablate_sets(x_BQD, mask_BQ, sae=dictionary.sae, indices_SK=sets_K1[which], toward_F=reference_F)

    # The untouched gap comes from the same replay: a difference of two ways of computing it would be counted as an effect.
    copies = [Copies(1, lambda x_BQD, mask_BQ, which: x_BQD[None]), Copies(len(latent_K), take_out)]
    found = score(bench.loaded, features, scene.questions, dictionary.hook, copies, where="decision", reporter=bench.ctx.reporter)
    gap_KN = np.array([np.log(arm.female) - np.log(arm.male) for part in found for arm in part.closed_set(scene.questions)])
    if not np.isfinite(gap_KN).all():
        raise InputError("steer: a probability of the closed set is 0 with a latent taken out, so its gap has no logarithm; check data.continuations")
    return (gap_KN[0] - gap_KN[1:]).T
