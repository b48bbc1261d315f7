"""The arms of an intervention experiment: what is done, to what, how strongly, and the edit that does it.

Arms share layer, positions and images, so that two arms differ in the edit alone. Shapes: S sets of K latents, D model width, F latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.sae.module import SparseAutoencoder
from saebias.steering import edits
from saebias.steering.edits import Edit
from saebias.steering.erasure import Eraser
from saebias.vlm.hooks import EditContext, EditFn

ARM_NAMES = {
    "A0": "hook that does nothing",
    "A1": "reconstruct only",
    "A2": "reconstruct, error added back",
    "A3": "ablate latents, error kept",
    "A4": "clamp latents, error kept",
    "A5": "add decoder direction",
    "A6": "ablate matched random latents, error kept",
    "A7": "add random direction of equal norm",
    "A8": "difference of means",
    "A9": "contrastive activation addition",
    "A10": "concept erased (LEACE)",
    "A12": "probe direction",
    "A13": "ablate latents of a frozen random decoder",
    "A15": "ablate latents where a gate opens",
}
NO_TARGET = "none"


@dataclass(frozen=True)
class ArmLabel:
    """Which arm a number belongs to: arm code, name, what it was aimed at (`visible/ar`, or `none` for controls) and its strength."""

    arm: str
    name: str
    target: str
    strength: float


@dataclass(frozen=True)
class Arm(ArmLabel):
    """An arm with the edit that makes it."""

    edit: Edit

    @property
    def label(self) -> ArmLabel:
        """The arm without its edit: what rows and tables carry."""
        return ArmLabel(self.arm, self.name, self.target, self.strength)


@dataclass(frozen=True)
class RandomSets:
    """Arm A6: matched random sets, one set a row, aimed at the same target and strength as the arm they control."""

    target: str
    strength: float
    indices_SK: Tensor
    scale_S: Tensor
    edit: Callable[[Tensor, Tensor, slice], Tensor]
    """`edit(x_BTD, mask_BT, which) -> x_SBTD` for the sets in the slice `which`."""

    @property
    def label(self) -> ArmLabel:
        """The label of the sets' pooled rows."""
        return ArmLabel("A6", ARM_NAMES["A6"], self.target, self.strength)


def as_hook(edit: Edit) -> EditFn:
    """The edit in the form that a forward pass of `saebias.vlm` takes: it acts at the positions that the pass marks."""

    def hook(x_BTD: Tensor, context: EditContext) -> Tensor:
        return edit(x_BTD, context.mask_BT)

    return hook


def control_arms(sae: SparseAutoencoder) -> list[Arm]:
    """A0 (nothing), A1 (reconstruction) and A2 (reconstruction plus error): what hook and dictionary do by themselves."""
    return [
        Arm("A0", ARM_NAMES["A0"], NO_TARGET, 0.0, edits.hook_that_does_nothing),
        Arm("A1", ARM_NAMES["A1"], NO_TARGET, 1.0, partial(edits.reconstruct, sae=sae)),
        Arm("A2", ARM_NAMES["A2"], NO_TARGET, 1.0, partial(edits.reconstruct_with_error, sae=sae)),
    ]


def ablation_arms(
    sae: SparseAutoencoder, sets: Mapping[str, Sequence[int]], strengths: Sequence[float], toward_F: Tensor | float, *, arm: str = "A3"
) -> list[Arm]:
    """A3 for every target and strength: the target's latents moved toward `toward_F`, error kept; A13 with a dictionary of frozen random directions."""
    if arm not in ("A3", "A13"):
        raise InputError(f"arm {arm!r} ablates no latents; choose A3, or A13 for a dictionary whose decoder was frozen at random")
    if (arm == "A13") != sae.spec.frozen_decoder:
        raise InputError(
            f"arm {arm} with a dictionary whose decoder was {'frozen' if sae.spec.frozen_decoder else 'trained'}; A13 is for frozen decoders alone"
        )
    return [
        Arm(arm, ARM_NAMES[arm], target, s, partial(edits.ablate_latents, sae=sae, indices=tuple(indices), toward_F=toward_F, strength=s))
        for target, indices in sets.items()
        for s in checked_strengths(strengths)
    ]


def gated_arms(arms: Sequence[Arm], gate: Callable[[Tensor], Tensor]) -> list[Arm]:
    """A15: each arm's edit only at the rows where `gate(x_ND) -> bool_N` is True (say, where a latent of an ambiguous person fires)."""
    return [Arm("A15", f"{ARM_NAMES['A15']}: {a.name}", a.target, a.strength, partial(edits.edit_where, edit=a.edit, gate=gate)) for a in arms]


def erasure_arms(erasers: Mapping[str, Eraser], strengths: Sequence[float]) -> list[Arm]:
    """A10 for every target's eraser (`erasure.fit_eraser`) and strength."""
    return [
        Arm("A10", ARM_NAMES["A10"], target, s, partial(eraser.edit, strength=s)) for target, eraser in erasers.items() for s in checked_strengths(strengths)
    ]


def clamp_arms(sae: SparseAutoencoder, sets: Mapping[str, Sequence[int]], values: Mapping[str, Tensor | float]) -> list[Arm]:
    """A4 for every target and named value (`zero`, `other gender's mean`, `midpoint`): the target's latents held at it."""
    return [
        Arm("A4", f"{ARM_NAMES['A4']}: {name}", target, 1.0, partial(edits.clamp_latents, sae=sae, indices=tuple(indices), values_F=value_F))
        for target, indices in sets.items()
        for name, value_F in values.items()
    ]


def direction_arms(directions: Mapping[str, Tensor], strengths: Sequence[float], *, arm: str = "A8", seed: int | None = None) -> list[Arm]:
    """Directions added, for every target and strength: A8 for differences of means, A5 for decoder rows, A9 for means over contrastive pairs.

    With a `seed` each comes with its A7 control, a random direction of equal norm. A strength multiplies the direction as it is.
    """
    if arm not in ("A5", "A8", "A9"):
        raise InputError(f"arm {arm!r} adds no direction; choose A5 (decoder rows), A8 (difference of means) or A9 (mean difference of contrastive pairs)")
    arms = []
    for number, (target, direction_D) in enumerate(directions.items()):
        pairs = [(arm, f"{ARM_NAMES[arm]}, added" if arm == "A8" else ARM_NAMES[arm], direction_D)]
        if seed is not None:
            pairs.append(("A7", ARM_NAMES["A7"], edits.random_direction(len(direction_D), float(direction_D.norm()), seed + number)))
        arms += [Arm(code, name, target, s, partial(edits.add_direction, direction_D=d, strength=s)) for code, name, d in pairs for s in strengths]
    return arms


def projection_arms(directions: Mapping[str, Tensor], toward: Mapping[str, float], strengths: Sequence[float], *, arm: str = "A8") -> list[Arm]:
    """A8 (A12 for probe directions), projected: the component along each target's direction moved to `toward[target]`; 1 removes all that differs from it."""
    if arm not in ("A8", "A12"):
        raise InputError(f"arm {arm!r} projects no direction; choose A8 (difference of means) or A12 (probe direction)")
    name = f"{ARM_NAMES[arm]}, projected out"
    return [
        Arm(arm, name, target, s, partial(edits.project_out, direction_D=direction_D, toward=toward[target], strength=s))
        for target, direction_D in directions.items()
        for s in checked_strengths(strengths)
    ]


def random_sets(
    sae: SparseAutoencoder, target: str, target_indices: Sequence[int], sets_SK: Tensor, toward_F: Tensor | float, strength: float, x_ND: Tensor
) -> RandomSets:
    """A6 for one target: its matched sets, each with its total perturbation norm over the rows `x_ND` rescaled to the target's.

    `x_ND` are activations at edited positions of the images the arms run on; the factor of a set is one number, whatever the batch.
    Raises InputError when a set holds a target latent, has another size than the target, or changes nothing.
    """
    sets_SK = edits.checked_sets(sets_SK, sae.spec.n_latents)
    chosen_1K = edits.checked_sets(torch.tensor([list(target_indices)]), sae.spec.n_latents)
    if sets_SK.shape[1] != chosen_1K.shape[1]:
        raise InputError(f"random sets of {sets_SK.shape[1]} latents for a target of {chosen_1K.shape[1]}; a control must be as large as what it controls")
    if torch.isin(sets_SK, chosen_1K).any():
        raise InputError(f"a random set for {target} holds one of its own latents; draw the sets from the other latents")
    target_norm = float(edits.set_norms(x_ND, sae=sae, indices_SK=chosen_1K, toward_F=toward_F))
    scale_S = edits.rescaling(target_norm, edits.set_norms(x_ND, sae=sae, indices_SK=sets_SK, toward_F=toward_F))

    def edit(x_BTD: Tensor, mask_BT: Tensor, which: slice) -> Tensor:
        return edits.ablate_sets(x_BTD, mask_BT, sae=sae, indices_SK=sets_SK[which], toward_F=toward_F, strength=strength, scale_S=scale_S[which])

    return RandomSets(target, strength, sets_SK, scale_S, edit)


def checked_strengths(strengths: Sequence[float]) -> Sequence[float]:
    """The strengths; InputError for a negative one, which would push latents away from the value they are to be moved toward."""
    negative = [s for s in strengths if s < 0]
    if negative:
        raise InputError(f"strength {negative[0]} is negative; an ablation goes from 0 (nothing) to 1 (wholly) and beyond")
    return strengths
