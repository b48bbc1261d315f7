"""What the arms of `steer` share: the images, the questions asked of them, and the latents, means and directions known from the select split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import InputError, NotEnoughData
from saebias.pipeline.stage import StageContext
from saebias.stages.model_access import ClosedSet, closed_set_of

if TYPE_CHECKING:
    from torch import Tensor

    from saebias.features.matching import LatentProfile
    from saebias.stages.dictionaries import Dictionary
    from saebias.stages.token_index import TokenIndex
    from saebias.steering.outcomes import Images
    from saebias.steering.scores import Questions
    from saebias.store.arrays import ActivationArray
    from saebias.vlm.loading import LoadedModel
    from saebias.vlm.prompts import PromptTokens

# Legend: N rows, D model dimension, F latents.


@dataclass(frozen=True)
class Scene:
    """The images that all arms of one language and split are measured on, with what is asked of them."""

    language: str
    split: str
    samples: list[dict[str, Any]]
    sets: list[ClosedSet]
    prompt: str
    shared: tuple[int, ...]
    """Per image the number of caption tokens that its F and M continuations share."""
    template: bool
    """Whether the prompt goes through the model's chat template."""

    @property
    def images(self) -> Images:
        """The images as columns."""
        from saebias.steering.outcomes import Images

        return Images(
            image_N=np.array([sample["image_id"] for sample in self.samples]),
            cluster_N=np.array([sample["cluster_id"] for sample in self.samples]),
            context_N=np.array([sample["context"] for sample in self.samples]),
            gender_N=np.array([sample["visual_gender"] for sample in self.samples]),
        )

    @property
    def questions(self) -> Questions:
        """The closed set of every image."""
        from saebias.steering.scores import Questions

        texts = tuple(tuple(chosen.all) for chosen in self.sets)
        genders = tuple(("F",) * len(c.female) + ("M",) * len(c.male) + ("N",) * len(c.neutral) for c in self.sets)
        return Questions(self.prompt, texts, genders, self.shared, self.template)


def choose_images(samples: Sequence[dict[str, Any]], split: str, n_ambiguous: int, n_clear: int, seed: int) -> list[dict[str, Any]]:
    """At most so many ambiguous and clear images of one split, spread evenly over contexts and, within a context, over picture groups.

    Order does not matter: every image has its own random number. Raises InputError when the split has no ambiguous or no clear image.
    """
    from saebias.corpus.grouping import draw

    chosen: list[dict[str, Any]] = []
    for genders, limit in ((("A",), n_ambiguous), (("F", "M"), n_clear)):
        pool = [s for s in samples if s["split"] == split and s["visual_gender"] in genders and s["context"] is not None]
        if not pool:
            raise NotEnoughData(
                f"steer: split {split} has no image with a context that shows {' or '.join(genders)}; give more images, or data.columns.visual_gender"
            )
        seen: dict[tuple[str, ...], int] = {}
        ranked = []
        for sample in sorted(pool, key=lambda s: draw(seed, "steer", s["sample_id"])):
            # How many came before from the same drawing, then from the same context and gender: taking the lowest spreads evenly over both.
            of_cluster = ("cluster", sample["context"], sample["cluster_id"])
            seen[of_cluster] = seen.get(of_cluster, 0) + 1
            ranked.append((seen[of_cluster], sample))
        ranked.sort(key=lambda pair: pair[0])
        by_cell: dict[tuple[str, str], int] = {}
        order = []
        for rank, sample in ranked:
            cell = (sample["context"], sample["visual_gender"])
            by_cell[cell] = by_cell.get(cell, 0) + 1
            order.append((by_cell[cell], rank, draw(seed, "steer", sample["sample_id"]), sample))
        order.sort(key=lambda item: item[:3])
        chosen += [item[3] for item in order[:limit]]
    return chosen


def make_scene(
    loaded: LoadedModel,
    samples: Sequence[dict[str, Any]],
    sets: dict[tuple[str, str], ClosedSet],
    prompt: str,
    language: str,
    split: str,
    limits: tuple[int, int],
    *,
    seed: int,
    template: bool,
) -> Scene:
    """The scene of one language and split; raises InputError when an image has no closed set."""
    from saebias.vlm.prompts import decision_token_count

    chosen = choose_images(samples, split, *limits, seed)
    served = [closed_set_of(sets, sample["context"], language) for sample in chosen]
    missing = [sample["context"] for sample, found in zip(chosen, served, strict=True) if found is None]
    if missing:
        raise InputError(f"steer: context {missing[0]!r} has no {language} continuations; add them to data.continuations")
    kept = [found for found in served if found is not None]
    edge = boundary(loaded, prompt, template=template)
    shared = {found: decision_token_count(loaded, edge, list(found.female), list(found.male)) for found in set(kept)}
    return Scene(language, split, chosen, kept, prompt, tuple(shared[found] for found in kept), template)


def boundary(loaded: LoadedModel, prompt: str, *, template: bool) -> PromptTokens:
    """The prompt, as the model reads it, as far as its boundary with a caption goes: its last character decides how the caption is tokenised."""
    from saebias.vlm.prompts import PromptTokens, render_prompt

    return PromptTokens((), None, render_prompt(loaded, prompt, has_image=loaded.processor is not None, use_chat_template=template)[-1:])


def chosen_latents(ctx: StageContext, layer: int) -> dict[str, list[int]]:
    """Set name (`stereotype/en`) -> latents of the layer's dictionary, best first."""
    from saebias.identifiers import FeatureRef, latent_indices

    rows = sorted((row for row in ctx.table("feature_sets").to_pylist() if row["layer"] == layer), key=lambda row: (row["set_name"], row["rank"]))
    found: dict[str, list[FeatureRef]] = {}
    for row in rows:
        found.setdefault(row["set_name"], []).append(FeatureRef(row["sae_id"], row["latent"]))
    return {name: latent_indices(refs, refs[0].sae_id) for name, refs in found.items()}


@dataclass(frozen=True)
class Known:
    """What is known of one language from the select split alone, at the layer steered."""

    x_ND: Tensor
    """Activations of the positions that an edit reaches, of ambiguous and clear images."""
    mean_F: Tensor
    """Mean of every latent there on ambiguous images: what an ablated latent is moved toward."""
    profile: LatentProfile
    directions: dict[str, Tensor]
    """Difference-of-means direction per target."""
    toward: dict[str, float]
    """Where the projection on each direction is moved to: its mean on ambiguous images."""


def known_from_select(
    dictionary: Dictionary,
    array: ActivationArray,
    index: TokenIndex,
    samples: dict[str, dict[str, Any]],
    language: str,
    gap_of: dict[str, float],
    positions: str,
) -> Known:
    """Means, profile and directions from the rows of the select split; `gap_of` is the model's gap per sample (exact, nats)."""
    import torch

    from saebias.steering.edits import difference_of_means

    part = index.where((index.split == "select") & (index.language == language))
    gender = np.array([samples[sample_id]["visual_gender"] or "-" for sample_id in part.sample_id])
    lacking = {"F", "M", "A"} - set(gender[part.decision])
    if lacking:
        raise NotEnoughData(
            f"steer: split select has no {language} decision rows of images that show {' or '.join(sorted(lacking))}; directions and means come from them: "
            "set extract.tokens.decision=true, or give more images"
        )
    is_reached = (part.decision if positions == "decision" else _behind_picture(part)) & (gender != "-")
    x_ND = torch.from_numpy(array.read_rows(dictionary.hook, part.row[is_reached]))
    codes_NF = dictionary.sae.encode(x_ND)
    mean_F = codes_NF[torch.from_numpy(gender[is_reached] == "A")].mean(0)
    decision = part.where(part.decision)
    decision_gender = gender[part.decision]
    x_decision_ND = torch.from_numpy(array.read_rows(dictionary.hook, decision.row))
    clear, open_ = np.isin(decision_gender, ("F", "M")), decision_gender == "A"
    visible_D = difference_of_means(x_decision_ND[torch.from_numpy(clear)], torch.from_numpy(decision_gender[clear] == "F"))
    leans = leaning_contexts(decision.sample_id[open_], samples, gap_of)
    x_open_ND = x_decision_ND[torch.from_numpy(open_)]
    directions = {f"visible/{language}": visible_D, f"stereotype/{language}": difference_of_means(x_open_ND, torch.from_numpy(leans))}
    toward = {name: float((x_open_ND @ (d / d.norm())).mean()) for name, d in directions.items()}
    return Known(x_ND, mean_F, _profile(dictionary, array, part, codes_NF.numpy()), directions, toward)


PROFILE_ROWS = 4096


def _profile(dictionary: Dictionary, array: ActivationArray, part: TokenIndex, codes_NF: np.ndarray) -> LatentProfile:
    """What latents are matched on: how often and how strongly they fire where the edit acts, and on which kinds of token they fire at all."""
    import torch

    from saebias.features.matching import LatentProfile, profile_of
    from saebias.stages.token_index import balanced_rows

    norm_F = dictionary.sae.W_dec_FD.norm(dim=1).numpy()
    everywhere = np.sort(balanced_rows(part, PROFILE_ROWS, seed=0))
    all_codes = dictionary.sae.encode(torch.from_numpy(array.read_rows(dictionary.hook, part.row[everywhere]))).numpy()
    kinds = profile_of(all_codes, norm_F, part.token_kind[everywhere])
    active_NF = codes_NF > 0
    fired_F = active_NF.sum(0)
    mean_F = codes_NF.sum(0) / np.maximum(fired_F, 1)
    # A latent that fires here but not in the sample of all tokens has no profile of kinds: it is left out of the pool.
    known_F = kinds.kind_share_FP.sum(1) > 0
    return LatentProfile(np.where(known_F, fired_F / len(codes_NF), 0.0), mean_F, norm_F, kinds.kind_share_FP, kinds.kinds)


def _behind_picture(part: TokenIndex) -> np.ndarray:
    """Rows at text positions behind the picture, up to the position that decides the gender."""
    key = np.char.add(part.sample_id.astype(str), part.language.astype(str))
    _, item_N = np.unique(key, return_inverse=True)
    last_image = np.full(item_N.max() + 1, -1)
    is_image = part.token_kind == "image"
    np.maximum.at(last_image, item_N[is_image], part.position[is_image])
    decides = np.full(item_N.max() + 1, -1)
    np.maximum.at(decides, item_N[part.decision], part.position[part.decision])
    if (last_image < 0).all():
        raise InputError("steer.positions=after_image: the extract run kept no image tokens; set extract.tokens.image=all, or steer.positions=decision")
    return (part.position > last_image[item_N]) & (part.position <= decides[item_N])


def leaning_contexts(sample_ids: np.ndarray, samples: dict[str, dict[str, Any]], gap_of: dict[str, float]) -> np.ndarray:
    """True for samples of the half of contexts whose mean gap leans to women most; raises InputError below two contexts."""
    contexts = np.array([samples[sample_id]["context"] or "-" for sample_id in sample_ids])
    names = np.unique(contexts)
    if len(names) < 2:
        raise NotEnoughData(f"steer: {len(names)} context of ambiguous images in split select; a stereotype needs two at least")
    gaps = np.array([gap_of[sample_id] for sample_id in sample_ids])
    means = {name: gaps[contexts == name].mean() for name in names}
    upper = sorted(names, key=lambda name: means[name])[len(names) // 2 :]
    return np.isin(contexts, upper)
