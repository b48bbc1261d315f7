"""Where training curves may go besides our own tables: TensorBoard or W&B, both optional."""

from __future__ import annotations

import importlib
import os
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from saebias.errors import InputError

if TYPE_CHECKING:
    from saebias.sae.training_records import HistoryRow

KINDS = ("none", "tensorboard", "wandb")


class Sink(Protocol):
    """Takes the history of one training, row by row."""

    def log(self, row: HistoryRow) -> None:
        """Write one row; its step is the horizontal axis."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def open_sink(kind: str, folder: Path, name: str, facts: dict[str, object]) -> Sink | None:
    """The sink of the training `name`, keeping its files in `folder`; None for the kind `none`.

    W&B runs offline unless WANDB_MODE says otherwise, so nothing leaves the machine unasked. Raises InputError for an unknown kind or a missing package.
    """
    if kind == "none":
        return None
    if kind == "tensorboard":
        return _TensorBoard(_imported("torch.utils.tensorboard", kind), folder / name)
    if kind == "wandb":
        return _WandB(_imported("wandb", kind), folder, name, facts)
    raise InputError(f"training curves cannot go to {kind!r}; choose one of {', '.join(KINDS)}")


def _imported(module: str, kind: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"train.track={kind} needs the package {kind}; install saebias[tracking], or set train.track=none") from None


class _TensorBoard:
    def __init__(self, module: ModuleType, folder: Path) -> None:
        self._writer = module.SummaryWriter(str(folder))

    def log(self, row: HistoryRow) -> None:
        for key, value in asdict(row).items():
            if key != "step":
                self._writer.add_scalar(key, value, row.step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, module: ModuleType, folder: Path, name: str, facts: dict[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        mode = os.environ.get("WANDB_MODE", "offline")
        # Several dictionaries train side by side in one process.
        settings = module.Settings(silent=True, console="off", x_disable_stats=True)
        self._run = module.init(project="saebias", name=name, config=facts, dir=str(folder), mode=mode, reinit="create_new", settings=settings)

    def log(self, row: HistoryRow) -> None:
        values = asdict(row)
        self._run.log(values, step=values.pop("step"))

    def close(self) -> None:
        self._run.finish()
