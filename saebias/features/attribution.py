"""Which latents push the gender decision, from gradients, and how the push splits into what the picture shows and what the context suggests.

m_i = log P(F continuation) - log P(M continuation) at the decision position of image i; g_ij its gradient with respect to latent j; f_ij the latent.
Shapes: N rows (images), F latents, O contexts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from saebias.errors import InputError
from saebias.stats.checks import binary, finite, same_rows


def latent_attribution(grad: ArrayLike, codes: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """a_NF = grad_NF * (codes_NF - reference_F): to first order, how much m would fall if the latent were set to its reference.

    Attribution patching (Nanda 2023; Syed, Rager & Conmy 2023) with a mean instead of a partner image. Float32 in, float32 out.
    """
    grad_NF, codes_NF, reference_F = np.asarray(grad), np.asarray(codes), np.asarray(reference)
    if grad_NF.shape != codes_NF.shape or reference_F.shape != codes_NF.shape[1:]:
        raise InputError(f"gradient {grad_NF.shape}, codes {codes_NF.shape} and reference {reference_F.shape} do not fit; hand in N x F, N x F and F")
    attribution_NF = grad_NF * (codes_NF - reference_F)
    if not np.isfinite(attribution_NF).all():
        raise InputError("an attribution is not finite; look for an overflow in the gradients (compute them in float32)")
    return attribution_NF


@dataclass(frozen=True)
class BetweenContext:
    """How the variance of mean_o m over contexts splits: sum(score_F) + error + remainder = total_variance, exactly.

    score_j = Cov_o(mean a_j, mean m), signed: above 0 when latent j drives contexts apart, below 0 when it holds them together. `error` is the share of the
    dictionary's error term (0 when not given), `remainder` what first-order attribution leaves unexplained (gradients change, other paths).
    """

    score_F: np.ndarray
    error: float
    remainder: float
    total_variance: float
    n_contexts: int
    n_images: int


def between_context(attribution: ArrayLike, gap: ArrayLike, contexts: ArrayLike, error: ArrayLike | None = None) -> BetweenContext:
    """The stereotype target: which latents carry the differences between contexts on ambiguous images.

    Hand in ambiguous images only: attribution_NF, gap_N = m, contexts_N, and error_N = gradient . (SAE error - its mean) where known. Contexts count alike,
    whatever their image counts; covariances divide by O - 1. Raises InputError below three contexts.
    """
    attribution_NF, gap_N = finite(attribution, "attribution"), finite(gap, "gap")
    names, context_N = np.unique(np.asarray(contexts), return_inverse=True)
    same_rows(attribution=attribution_NF, gap=gap_N, contexts=context_N)
    if len(names) < 3:
        raise InputError(f"{len(names)} contexts ({', '.join(str(name) for name in names)}): a covariance over contexts needs at least three")
    average_ON = (context_N[None, :] == np.arange(len(names))[:, None]) / np.bincount(context_N)[:, None]
    gap_O = average_ON @ gap_N
    weight_O = (gap_O - gap_O.mean()) / (len(names) - 1)
    weight_N = weight_O @ average_ON
    score_F = weight_N @ attribution_NF
    error_share = float(weight_N @ finite(error, "error")) if error is not None else 0.0
    total = float(gap_O.var(ddof=1))
    return BetweenContext(score_F, error_share, total - float(score_F.sum()) - error_share, total, len(names), len(gap_N))


def visible_gender(attribution: ArrayLike, y: ArrayLike) -> np.ndarray:
    """The visible-gender target: mean attribution on clear images of women (y = 1) minus that on men, score_F, in log-odds."""
    attribution_NF, y_N = finite(attribution, "attribution"), binary(y)
    same_rows(attribution=attribution_NF, y=y_N)
    return attribution_NF[y_N].mean(axis=0) - attribution_NF[~y_N].mean(axis=0)
