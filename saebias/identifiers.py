"""Identifiers that carry their meaning, so that two things of different kinds cannot be mixed up by a bare number."""

from __future__ import annotations

import re
from dataclasses import dataclass

from saebias.errors import InputError

LANGUAGES = ("en", "ar")
SITES = ("resid_post", "attn_out", "mlp_out")


@dataclass(frozen=True, order=True)
class HookPoint:
    """A place in the decoder: the output of layer `layer` (from 0) at `site`."""

    layer: int
    site: str = "resid_post"

    def __post_init__(self) -> None:
        if self.layer < 0:
            raise InputError(f"layer {self.layer} is negative; layers count from 0")
        if self.site not in SITES:
            raise InputError(f"unknown site {self.site!r}; sites are {', '.join(SITES)}")

    @property
    def name(self) -> str:
        """The text form, such as `L03.resid_post`: sorts by layer and is safe in a file name."""
        return f"L{self.layer:02d}.{self.site}"

    @classmethod
    def parse(cls, text: str) -> HookPoint:
        """The hook point of a text form; raises InputError for anything else."""
        match = re.fullmatch(r"L(\d+)\.(\w+)", text)
        if match is None:
            raise InputError(f"{text!r} is not a hook point; write it like L03.resid_post")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, order=True)
class FeatureRef:
    """One latent of one dictionary. Its index means nothing without `sae_id`."""

    sae_id: str
    index: int

    def __str__(self) -> str:
        return f"{self.sae_id}/{self.index}"


def latent_indices(features: list[FeatureRef], sae_id: str) -> list[int]:
    """The indices of `features` inside dictionary `sae_id`; raises InputError when one belongs to another dictionary."""
    for feature in features:
        if feature.sae_id != sae_id:
            raise InputError(f"feature {feature} belongs to dictionary {feature.sae_id}, not to {sae_id}; an index means nothing in another dictionary")
    return [feature.index for feature in features]
