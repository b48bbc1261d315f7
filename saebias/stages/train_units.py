"""Which dictionaries `train` makes: the main ones, and those that say how far the main ones can be trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saebias.config.train_schema import TrainConfig
from saebias.errors import InputError
from saebias.identifiers import HookPoint

if TYPE_CHECKING:
    from saebias.sae.module import SaeSpec

ROLES = ("main", "seed", "sweep", "control")
CALIBRATION_ROWS = 16_384


@dataclass(frozen=True)
class TrainUnit:
    """One dictionary to train, or to import from `folder`.

    Its role: `main` is analysed, `seed` differs in the initialisation alone, `sweep` in size, `control` has a random decoder.
    """

    hook: HookPoint
    seed: int
    k: int
    expansion: int
    role: str
    folder: Path | None = None

    @property
    def name(self) -> str:
        """The unit, and the dictionary's id within its run."""
        if self.folder is not None:
            return f"{self.hook.name}.imported"
        name = sae_unit(self.hook, self.seed)
        if self.role == "sweep":
            return f"{name}.k{self.k}.x{self.expansion}"
        return f"{name}.frozen" if self.role == "control" else name

    def bytes(self, d_model: int) -> int:
        """Memory while it is trained: both matrices with both moments and the best state, and the rows that thresholds are set on; float32."""
        return 4 * (2 * 4 * self.expansion * d_model**2 + CALIBRATION_ROWS * d_model)

    def spec(self, architecture: str, d_model: int) -> SaeSpec:
        """What it is; raises InputError, naming the unit, for a size that makes no dictionary."""
        from saebias.sae.module import SaeSpec

        try:
            return SaeSpec(d_model, self.expansion * d_model, self.k, architecture=architecture, seed=self.seed, frozen_decoder=self.role == "control")
        except InputError as error:
            raise InputError(f"train {self.name}: {error}; see train.k and train.expansion") from None


def sae_unit(hook: HookPoint, seed: int) -> str:
    """The unit (and the id within a run) of the main dictionary of a hook point, and of its siblings of other seeds."""
    return f"{hook.name}.seed{seed}"


def analysis_layer(layers: Iterable[int], wanted: int | None) -> int:
    """The layer that is looked at most closely: `wanted`, else of those kept the one nearest two thirds of the way up; raises InputError if not kept."""
    kept = sorted(set(layers))
    if wanted is None:
        return kept[round(2 / 3 * (len(kept) - 1))]
    if wanted not in kept:
        raise InputError(f"train.analysis_layer={wanted}: activations of that layer were not kept; choose one of {', '.join(map(str, kept))}")
    return wanted


def train_units(cfg: TrainConfig, hooks: list[HookPoint]) -> list[TrainUnit]:
    """All dictionaries of a run, by hook point, the main one first; an imported one has no further seeds and no sweep.

    Raises InputError for a seed named twice, and for an analysis layer or hook point that was not kept.
    """
    chosen = analysis_layer([hook.layer for hook in hooks], cfg.analysis_layer)
    if len(set(cfg.seeds)) < len(cfg.seeds):
        raise InputError(f"train.seeds={cfg.seeds} names a seed twice: equal seeds make equal dictionaries, and say nothing about stability; choose others")
    first, *further = cfg.seeds
    sizes = [(k, expansion) for k in cfg.sweep.k or [cfg.k] for expansion in cfg.sweep.expansion or [cfg.expansion]]
    folders = import_folders(cfg, hooks)
    units = []
    for hook in hooks:
        folder = folders.get(hook)
        units.append(TrainUnit(hook, first, cfg.k, cfg.expansion, "main", folder))
        if folder is None and (cfg.seed_layers == "all" or hook.layer == chosen):
            units += [TrainUnit(hook, seed, cfg.k, cfg.expansion, "seed") for seed in further]
        if folder is None and (cfg.sweep.layers == "all" or hook.layer == chosen):
            units += [TrainUnit(hook, first, k, expansion, "sweep") for k, expansion in sizes if (k, expansion) != (cfg.k, cfg.expansion)]
        if hook.layer == chosen:
            units.append(TrainUnit(hook, first, cfg.k, cfg.expansion, "control"))
    return units


def import_folders(cfg: TrainConfig, hooks: list[HookPoint]) -> dict[HookPoint, Path]:
    """The folder of each hook point whose dictionary is imported; raises InputError for a hook point without activations, or one named twice."""
    folders: dict[HookPoint, Path] = {}
    for wanted in cfg.imports:
        hook = HookPoint.parse(wanted.hook)
        if hook not in hooks:
            raise InputError(f"train.imports: activations of {hook} were not kept; choose one of {', '.join(map(str, hooks))}, or add it to extract.layers")
        if hook in folders:
            raise InputError(f"train.imports names {hook} twice, {folders[hook]} and {wanted.folder}; a hook point has one dictionary")
        folders[hook] = wanted.folder
    return folders
