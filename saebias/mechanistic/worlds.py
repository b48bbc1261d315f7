"""Planted worlds of latents and activations, whose truth the tools must find: images seen in two languages through one dictionary.

Shapes: N images, F latents, D model width. A world's seed feeds data alone; nothing here initialises a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from saebias.errors import InputError

KINDS = ("shared", "separate", "hierarchical", "null")


@dataclass(frozen=True)
class WorldSpec:
    """What is planted.

    shared: the same gender latents in both languages; separate: other ones in each; hierarchical: some shared and some of each language's own;
    null: gender is shown in the pictures and moves nothing.
    """

    kind: str
    n_clusters: int = 160
    images_per_cluster: int = 3
    n_contexts: int = 16
    n_latents: int = 200
    d_model: int = 96
    n_gender: int = 8
    """Gender latents per language."""
    n_language: int = 10
    """Latents that fire in one language only, per language; they know nothing of gender."""
    n_context: int = 4
    """Gender latents that fire for one context only, in both languages (0 in a null world)."""
    n_dead: int = 6
    firing: float = 0.15
    """Share of images on which an ordinary latent fires."""
    effect: float = 0.45
    """Rise of a gender latent's firing probability on pictures of its gender, fall on the other's."""
    noise: float = 0.2
    """Standard deviation of noise in each dimension of the activations."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"unknown world {self.kind!r}; choose one of {', '.join(KINDS)}")
        planted = 3 * self.n_gender + 2 * self.n_language + self.n_context + self.n_dead
        if planted > self.n_latents:
            raise InputError(f"{planted} planted latents do not fit into {self.n_latents}; enlarge n_latents")


@dataclass(frozen=True, eq=False)
class World:
    """Paired images in English and Arabic, their codes and activations, and what is true of every latent.

    `truth` names disjoint groups of latents that cover all: shared, en, ar (gender), context, en_language, ar_language, dead, plain.
    """

    spec: WorldSpec
    codes_en_NF: np.ndarray
    codes_ar_NF: np.ndarray
    x_en_ND: np.ndarray
    x_ar_ND: np.ndarray
    W_dec_FD: np.ndarray
    gender_N: np.ndarray
    cluster_N: np.ndarray
    context_N: np.ndarray
    truth: Mapping[str, np.ndarray]

    @property
    def is_female_N(self) -> np.ndarray:
        """True where the picture shows a woman."""
        return self.gender_N == "F"


def plant_world(spec: WorldSpec, seed: int) -> World:
    """The world of a seed: latents in random order, pictures of women, men and neither, every near-duplicate cluster of one gender and context."""
    rng = np.random.default_rng([seed, 77])
    cluster_N = np.repeat(np.arange(spec.n_clusters), spec.images_per_cluster)
    gender_G = rng.permutation(np.resize(["F", "M", "A"], spec.n_clusters))
    context_G = rng.permutation(np.arange(spec.n_clusters) % spec.n_contexts)
    gender_N, context_N = gender_G[cluster_N], context_G[cluster_N]
    truth = _assign_latents(spec, rng)
    fires_NF = rng.random((len(cluster_N), spec.n_latents))
    sign_N = np.select([gender_N == "F", gender_N == "M"], [1.0, -1.0], 0.0)
    codes = {language: _codes(spec, language, truth, fires_NF, sign_N, context_N, rng) for language in ("en", "ar")}
    W_dec_FD = rng.normal(size=(spec.n_latents, spec.d_model))
    W_dec_FD /= np.linalg.norm(W_dec_FD, axis=1, keepdims=True)
    x = {language: codes_NF @ W_dec_FD + spec.noise * rng.normal(size=(len(cluster_N), spec.d_model)) for language, codes_NF in codes.items()}
    return World(spec, codes["en"], codes["ar"], x["en"], x["ar"], W_dec_FD, gender_N, cluster_N, context_N, truth)


def _assign_latents(spec: WorldSpec, rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = spec.n_gender
    gender = {
        "shared": {"shared": n, "en": 0, "ar": 0},
        "separate": {"shared": 0, "en": n, "ar": n},
        "hierarchical": {"shared": n, "en": n, "ar": n},
        "null": {"shared": 0, "en": 0, "ar": 0},
    }[spec.kind]
    context = 0 if spec.kind == "null" else spec.n_context
    sizes = {**gender, "context": context, "en_language": spec.n_language, "ar_language": spec.n_language, "dead": spec.n_dead}
    order = rng.permutation(spec.n_latents)
    ends = np.cumsum(list(sizes.values()))
    groups = dict(zip(sizes, np.split(order[: ends[-1]], ends[:-1]), strict=True))
    return {**groups, "plain": order[ends[-1] :]}


def _codes(
    spec: WorldSpec, language: str, truth: Mapping[str, np.ndarray], fires_NF: np.ndarray, sign_N: np.ndarray, context_N: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Codes of one language: mostly the same latents fire for an image in both languages, a quarter of the firing is drawn anew."""
    anew_NF = rng.random(fires_NF.shape) < 0.25
    draw_NF = np.where(anew_NF, rng.random(fires_NF.shape), fires_NF)
    chance_NF = np.full(fires_NF.shape, spec.firing)
    other = "ar" if language == "en" else "en"
    for group in ("shared", language):
        # Half of the gender latents stand for women, half for men.
        toward_K = np.where(np.arange(len(truth[group])) % 2 == 0, 1.0, -1.0)
        chance_NF[:, truth[group]] = np.clip(0.5 + spec.effect * np.outer(sign_N, toward_K), 0.02, 0.98)
    for number, latent in enumerate(truth["context"]):
        chance_NF[:, latent] = np.where(context_N == number, np.clip(0.5 + spec.effect * sign_N, 0.02, 0.98), 0.02)
    chance_NF[:, truth[f"{other}_language"]] = 0.0
    chance_NF[:, truth["dead"]] = 0.0
    return (draw_NF < chance_NF) * rng.gamma(4.0, 0.25, size=fires_NF.shape)
