"""A training on disk, to be taken up after it was broken off: one safetensors file, whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from saebias.errors import InputError, StoreError

FORMAT = "saebias-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training: tensors by name, and facts that are plain JSON."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint, identity: Mapping[str, object]) -> None:
    """Put the checkpoint in the place of the one before, in one step; `identity` is what the training is (spec, configuration, data), plain JSON.

    Raises StoreError when the file cannot be written.
    """
    header = {"format": FORMAT, "identity": json.dumps(identity), "facts": json.dumps(checkpoint.facts)}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}, unfinished, metadata=header)
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; free some space or set runtime.artifacts elsewhere") from error
    finally:
        unfinished.unlink(missing_ok=True)


def checkpoint_facts(path: Path, identity: Mapping[str, object]) -> dict[str, Any] | None:
    """The facts of the checkpoint at `path` without its tensors, None where there is none.

    Raises StoreError when the file is damaged, and InputError, naming what differs, when it belongs to another training.
    """
    if not path.is_file():
        return None
    with _damage_named(path), safe_open(path, framework="pt") as opened:
        header = opened.metadata() or {}
    if header.get("format") != FORMAT:
        raise InputError(f"{path} is a safetensors file but no checkpoint of a training (format {header.get('format')!r}); delete it, or move it away")
    theirs, ours = json.loads(header["identity"]), json.loads(json.dumps(identity))
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            change = f"{key} is {theirs.get(key)!r} there and {ours.get(key)!r} here"
            raise InputError(f"{path} is the checkpoint of another training ({change}); delete it, or go back to its configuration")
    return json.loads(header["facts"])


def load_checkpoint(path: Path, identity: Mapping[str, object]) -> Checkpoint | None:
    """The checkpoint at `path`, None where there is none; raises as `checkpoint_facts` does."""
    facts = checkpoint_facts(path, identity)
    if facts is None:
        return None
    with _damage_named(path), safe_open(path, framework="pt") as opened:
        return Checkpoint({name: opened.get_tensor(name) for name in opened.keys()}, facts)  # noqa: SIM118 - not a dict, it cannot be iterated


@contextmanager
def _damage_named(path: Path) -> Generator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is damaged ({str(error).splitlines()[0]}); delete it, and this training begins again") from error
