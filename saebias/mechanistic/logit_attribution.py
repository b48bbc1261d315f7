"""Which component of the decoder writes the gender gap: each one's share of logit(F) - logit(M), adding up exactly.

The final norm divides by one number per row (RMS norm), so with that number held the logit difference is a sum over what was added to the residual stream:
the embeddings, and each layer's attention and MLP output. Shapes: N rows, C components, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saebias.errors import InputError, ModelError
from saebias.identifiers import HookPoint
from saebias.mechanistic.decisions import Decisions
from saebias.stats.checks import same_rows
from saebias.stats.resampling import Statistic, cluster_bootstrap
from saebias.vlm.adapter import Adapter
from saebias.vlm.forward import PrefixState, activations
from saebias.vlm.loading import LoadedModel

EMBEDDINGS = "embeddings"
CONTRAST = "F-M"
"""The name of the group `women's pictures minus men's`."""


@dataclass(frozen=True)
class AttributionRow:
    """What one component adds, on average over images, to logit(likeliest F token) - logit(likeliest M token) of one language and visual gender.

    `layer` is None for the embeddings; `visual_gender` is F, M, A, or "F-M" for the difference between women's and men's pictures. `total` is the model's own
    mean logit difference, which the contributions sum to; `sum_error` the largest distance between the two over single rows.
    """

    layer: int | None
    component: str
    language: str
    visual_gender: str
    contribution: float
    low: float
    high: float
    total: float
    sum_error: float
    n_images: int
    n_clusters: int


@dataclass(frozen=True, eq=False)
class LogitAttribution:
    """Contributions [C, N] of the named components to logit(F token) - logit(M token), and how far their sum is from the model's own (largest, logits)."""

    components: tuple[str, ...]
    contribution_CN: np.ndarray
    total_N: np.ndarray
    largest_error: float

    def rows(self, language: str, visual_gender: Sequence[str], clusters: Sequence[object], *, seed: int, n_draws: int = 2000) -> list[AttributionRow]:
        """Means per visual gender, and women minus men where both are there, with image-cluster intervals."""
        gender_N, cluster_N = np.asarray(visual_gender), np.asarray(clusters)
        same_rows(contributions=self.contribution_CN.T, visual_gender=gender_N, clusters=cluster_N)
        groups = [g for g in ("F", "M", "A") if (gender_N == g).any()]
        groups += [CONTRAST] if {"F", "M"} <= set(groups) else []
        found = []
        for group in groups:
            kept_N = np.isin(gender_N, group.split("-"))
            sign_N = np.where(gender_N[kept_N] == "M", -1.0, 1.0) if group == CONTRAST else np.ones(int(kept_N.sum()))
            total = float(_signed_mean(self.total_N[kept_N], sign_N)(np.ones((1, len(sign_N))))[0])
            for name, x_N in zip(self.components, self.contribution_CN[:, kept_N], strict=True):
                mean = cluster_bootstrap(_signed_mean(x_N, sign_N), cluster_N[kept_N], n_draws=n_draws, seed=seed)
                layer, site = _place(name)
                found.append(
                    AttributionRow(layer, site, language, group, mean.value, mean.low, mean.high, total, self.largest_error, mean.n_rows, mean.n_clusters)
                )
        return found


def _place(component: str) -> tuple[int | None, str]:
    if component == EMBEDDINGS:
        return None, EMBEDDINGS
    hook = HookPoint.parse(component)
    return hook.layer, {"attn_out": "attention", "mlp_out": "mlp"}[hook.site]


def _signed_mean(values_N: np.ndarray, sign_N: np.ndarray) -> Statistic:
    """Mean of the rows signed +1 minus mean of those signed -1, where there are any."""

    def mean(weights_RN: np.ndarray) -> np.ndarray:
        sides = []
        for sign in np.unique(sign_N):
            weights = weights_RN[:, sign_N == sign]
            with np.errstate(invalid="ignore"):
                # A draw without any row of one side has no difference: NaN, which the interval counts.
                sides.append(sign * (weights @ values_N[sign_N == sign]) / weights.sum(axis=1))
        return np.sum(sides, axis=0)

    return mean


@torch.no_grad()
def record_parts(loaded: LoadedModel, decisions: Decisions, *, prefix: PrefixState | None = None) -> tuple[dict[str, Tensor], Tensor]:
    """(what each component added to the residual stream at the deciding column [N, D], the stream after the last layer there).

    `prefix`, where given, was made with `part_hooks`. Raises ModelError for a layer whose blocks do not enter the stream as a plain sum.
    """
    adapter, embedded = loaded.adapter, []
    *added, final = part_hooks(adapter)
    handle = adapter.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: embedded.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    try:
        seen = activations(loaded, decisions.inputs, [*added, final], prefix=prefix)
    finally:
        handle.remove()
    first = 0 if prefix is None else prefix.columns
    rows_N = torch.arange(len(decisions), device=decisions.column_N.device)
    # The deciding column stands behind the picture, so the last pass has it whether a prefix was shared or not.
    parts = {EMBEDDINGS: embedded[-1][rows_N, decisions.column_N - first]}
    parts |= {hook.name: decisions.at_column(seen[hook]) for hook in added}
    return parts, decisions.at_column(seen[final])


def part_hooks(adapter: Adapter) -> list[HookPoint]:
    """Attention and MLP of every layer, and last the residual stream after the last layer."""
    return [*(HookPoint(layer, site) for layer in range(adapter.n_layers) for site in ("attn_out", "mlp_out")), HookPoint(adapter.n_layers - 1)]


@torch.no_grad()
def likeliest_ids(logits_NV: Tensor, ids: Sequence[Sequence[int]]) -> list[int]:
    """Of each row's token ids the one with the largest logit."""
    return [int(of_row[int(logits_V[list(of_row)].argmax())]) for logits_V, of_row in zip(logits_NV, ids, strict=True)]


@torch.no_grad()
def attribute_logits(
    adapter: Adapter,
    parts: Mapping[str, Tensor],
    female_ids: Sequence[int],
    male_ids: Sequence[int],
    *,
    final_ND: Tensor | None = None,
    tolerance: float = 1e-3,
) -> LogitAttribution:
    """The share of every part in the logit difference of one F and one M token per row.

    `parts` maps names to what each added to the residual stream [N, D] at one position per row: embeddings, then attn_out and mlp_out of every layer. With
    `final_ND`, the stream after the last layer, the model's own difference is computed from it; else from the parts' sum, whose fit `check_parts` tells.
    Differences are taken before a soft-cap, which is monotone but not linear. Raises ModelError for a norm that is not an RMS norm.
    """
    x_CND = torch.stack([part.float() for part in parts.values()])
    total_ND = x_CND.sum(0) if final_ND is None else final_ND.float()
    n_rows, d = total_ND.shape
    if not n_rows == len(female_ids) == len(male_ids):
        raise InputError(f"{n_rows} rows, {len(female_ids)} F tokens, {len(male_ids)} M tokens; give one of each per row")
    weight_VD = adapter.head.get_parameter("weight")
    own_ND = adapter.norm(total_ND.to(weight_VD.dtype)).float()
    # An RMS norm of ones is its gain.
    gain_D = adapter.norm(torch.ones(1, d, dtype=weight_VD.dtype, device=weight_VD.device))[0].float()
    scale_ND = gain_D / total_ND.pow(2).mean(-1, keepdim=True).sqrt()
    if not torch.allclose(total_ND * scale_ND, own_ND, atol=tolerance * float(own_ND.abs().max())):
        raise ModelError("the final norm is not an RMS norm (it centres or shifts), so logits do not split over components this way")
    readout_ND = (weight_VD[list(female_ids)] - weight_VD[list(male_ids)]).float()
    contribution_CN = torch.einsum("cnd,nd->cn", x_CND, scale_ND * readout_ND)
    own_N = (own_ND * readout_ND).sum(-1)
    error = float((contribution_CN.sum(0) - own_N).abs().max())
    return LogitAttribution(tuple(parts), contribution_CN.cpu().numpy(), own_N.cpu().numpy(), error)


def check_parts(parts: Mapping[str, Tensor], final_ND: Tensor, tolerance: float = 1e-3) -> None:
    """Raise ModelError when the parts do not add up to the residual stream after the last layer: something that writes to it was left out."""
    missing = (torch.stack([part.float() for part in parts.values()]).sum(0) - final_ND.float()).abs().max()
    if missing > tolerance * max(1.0, float(final_ND.abs().max())):
        raise ModelError(
            f"the {len(parts)} parts miss the residual stream by up to {float(missing):.2g}; embeddings, attn_out and mlp_out of every layer are needed"
        )
