"""What the model says under one arm, per image, and the two axes made of it: the stereotype left, and harm on clear images.

Shapes: N images (one language), A arms or random sets, O contexts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from saebias.errors import InputError
from saebias.stats.checks import finite, same_rows
from saebias.stats.heterogeneity import sampling_variances, unit_of_rows

GENDERS = ("F", "M", "A")


@dataclass(frozen=True)
class Images:
    """The images that every arm is measured on, in one language: near-duplicate cluster, context and visual gender (F, M, A) of each."""

    image_N: np.ndarray
    cluster_N: np.ndarray
    context_N: np.ndarray
    gender_N: np.ndarray

    def __post_init__(self) -> None:
        same_rows(image=self.image_N, cluster=self.cluster_N, context=self.context_N, gender=self.gender_N)
        unknown = sorted(set(np.unique(self.gender_N).tolist()) - set(GENDERS))
        if unknown:
            raise InputError(f"visual gender {unknown[0]!r} is none of F, M, A; label the image or leave it out")

    @cached_property
    def ambiguous_N(self) -> np.ndarray:
        """True where the picture does not say."""
        return self.gender_N == "A"

    def where(self, keep_N: np.ndarray) -> Images:
        """The images marked True."""
        return Images(self.image_N[keep_N], self.cluster_N[keep_N], self.context_N[keep_N], self.gender_N[keep_N])


@dataclass(frozen=True)
class ClosedSet:
    """Exact probabilities of the closed set of continuations, summed by gender: one row per image, or one row of images per random set [A, N].

    `neutral` is None where no neutral continuation was given. They need not add up to 1: shares are taken within the closed set.
    """

    female: np.ndarray
    male: np.ndarray
    neutral: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, values in {"female": self.female, "male": self.male, "neutral": self.neutral}.items():
            if values is not None and (finite(values, f"P({name})") < 0).any():
                raise InputError(f"P({name}) is negative for {int((values < 0).sum())} images; hand in probabilities, not logits")
        if not ((self.female + self.male) > 0).all():
            raise InputError("P(F) + P(M) is 0 for an image; its continuations do not fit the model's prompt")

    @property
    def share_female(self) -> np.ndarray:
        """P(F | F or M)."""
        return self.female / (self.female + self.male)

    @property
    def joint(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(P(F), P(M), P(N)) within the closed set, adding up to 1."""
        neutral = np.zeros_like(self.female) if self.neutral is None else self.neutral
        total = self.female + self.male + neutral
        return self.female / total, self.male / total, neutral / total


def clear_shares(images: Images, closed: ClosedSet) -> dict[str, np.ndarray]:
    """Exact probability of a right, wrong and neutral caption on each clear image, the ambiguous ones left out (last axis: clear images)."""
    clear_N = ~images.ambiguous_N
    female, male, neutral = (share[..., clear_N] for share in closed.joint)
    shows_woman = images.gender_N[clear_N] == "F"
    return {"right": np.where(shows_woman, female, male), "wrong": np.where(shows_woman, male, female), "neutral": neutral}


def clear_metrics(images: Images, closed: ClosedSet, baseline: ClosedSet) -> dict[str, np.ndarray]:
    """Per clear image: clear_accuracy, clear_wrong, clear_neutral (where there are neutral continuations) and clear_harm.

    clear_harm is the rise of wrong + neutral over the baseline: a caption that turns neutral on a clear image is harm too.
    """
    after, before = clear_shares(images, closed), clear_shares(images, baseline)
    metrics = {"clear_accuracy": after["right"], "clear_wrong": after["wrong"]}
    if closed.neutral is not None:
        metrics["clear_neutral"] = after["neutral"]
    return {**metrics, "clear_harm": (after["wrong"] + after["neutral"]) - (before["wrong"] + before["neutral"])}


def contexts_with_noise(images: Images) -> np.ndarray:
    """True for the ambiguous images whose context has two clusters or more: elsewhere sampling noise cannot be told from a stereotype."""
    _, context_N, _, context_G = unit_of_rows(images.context_N[images.ambiguous_N], images.cluster_N[images.ambiguous_N])
    several_O = np.bincount(context_G) > 1
    if several_O.sum() < 2:
        raise InputError(f"{int(several_O.sum())} contexts have two clusters of ambiguous images or more; a spread over contexts needs two such contexts")
    kept_N = np.zeros(len(images.image_N), dtype=bool)
    kept_N[np.flatnonzero(images.ambiguous_N)[several_O[context_N]]] = True
    return kept_N


def spread_and_default(images: Images, share_female_AN: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(spread_A, default_A, noise_A) of A arms over images that are all ambiguous.

    spread S = sqrt(max(0, var_o(mean_o) - noise)), noise the mean sampling variance of a context's mean, as in `stats.heterogeneity.spread_of_groups`;
    default D = 1/2 - mean_o.
    """
    _, context_N = np.unique(images.context_N, return_inverse=True)
    mean_AO = np.stack([np.bincount(context_N, weights=share_N) for share_N in share_female_AN]) / np.bincount(context_N)
    noise_A = np.array([sampling_variances(share_N, images.context_N, images.cluster_N).mean() for share_N in share_female_AN])
    return np.sqrt(np.maximum(0.0, mean_AO.var(axis=1, ddof=1) - noise_A)), 0.5 - mean_AO.mean(axis=1), noise_A
