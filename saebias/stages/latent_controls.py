"""How many latents look gendered where none can be: under permuted labels, and in a dictionary with a frozen random decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import NotEnoughData
from saebias.pipeline.stage import StageContext
from saebias.stages.model_access import spoken

if TYPE_CHECKING:
    from saebias.stages.analyze_features import DecisionPart
    from saebias.stages.dictionaries import Dictionary
    from saebias.stages.token_index import TokenIndex
    from saebias.store.arrays import ActivationArray

# Legend: N rows, F latents, G picture groups.

LEVEL = 0.05
"""False discovery rate at which a latent is counted."""


def write_latent_controls(ctx: StageContext, array: ActivationArray, index: TokenIndex, samples: dict[str, dict[str, Any]]) -> None:
    """Count gendered latents of the main and the frozen dictionary of the analysis layer, with true and with permuted labels, one unit per language."""
    from saebias.stages.dictionaries import dictionaries_of_role

    names = ctx.pending([f"controls-{language}" for language in spoken(ctx)])
    if not names:
        return
    frozen = dictionaries_of_role(ctx, ("control",))
    chosen = [*(d for d in dictionaries_of_role(ctx, ("main",)) if d.hook in {f.hook for f in frozen}), *frozen]
    for name in names:
        rows: list[dict[str, Any]] = []
        try:
            rows = control_rows(ctx, chosen, array, index, samples, name.rpartition("-")[2])
        except NotEnoughData as error:
            ctx.reporter.warn(f"{name} is left out: {error}", alarm=True)
        with ctx.unit(name) as out:
            out.rows("latent_controls", rows)


def control_rows(
    ctx: StageContext, dictionaries: list[Dictionary], array: ActivationArray, index: TokenIndex, samples: dict[str, dict[str, Any]], language: str
) -> list[dict[str, Any]]:
    """Per dictionary and kind of labels, the latents whose activity at the decision differs between women and men on the select split."""
    import torch

    from saebias.features.contrast import contrast
    from saebias.stages.analyze_features import decision_part, need_both

    part = decision_part(index, samples, language, "select", ("F", "M"))
    need_both({"select": part}, language)
    labels = {"true": part.is_woman, "permuted": permuted_labels(part, ctx.seed(f"permuted-{language}"))}
    rows = []
    for dictionary in dictionaries:
        codes_NF = dictionary.sae.encode(torch.from_numpy(array.read_rows(dictionary.hook, part.rows))).numpy()
        for kind, is_woman in labels.items():
            # The seed of the test in `visible_rows`: with true labels the main dictionary's count is that of its feature scores.
            seed = ctx.seed(f"{dictionary.hook.name}-{language}")
            found = contrast(codes_NF, is_woman, part.clusters, seed=seed, n_permutations=ctx.cfg.analyze.permutations)
            n_live, n_found = int(found.live_F.sum()), int((found.q_F <= LEVEL).sum())
            rows.append(
                {
                    "sae_id": dictionary.sae_id,
                    "layer": dictionary.hook.layer,
                    "role": dictionary.role,
                    "language": language,
                    "split": "select",
                    "labels": kind,
                    "n_live": n_live,
                    "n_found": n_found,
                    "share_found": n_found / n_live if n_live else None,
                    "largest_effect": float(np.abs(found.auroc_F - 0.5).max()),
                    "n_images": found.n_images,
                    "note": None if n_live else "no latent is active at a decision",
                }
            )
    return rows


def permuted_labels(part: DecisionPart, seed: int) -> np.ndarray:
    """The labels dealt anew among picture groups [N] bool: as many groups show women as before, and a group keeps one label."""
    _, first_G, group_N = np.unique(part.clusters, return_index=True, return_inverse=True)
    is_woman_G = part.is_woman[first_G]
    return np.random.default_rng(seed).permutation(is_woman_G)[group_N].reshape(len(part.rows))
