"""Where a dictionary is trained."""

from __future__ import annotations

import torch

from saebias.errors import InputError


def training_device(name: str) -> torch.device:
    """The device `cpu`, `cuda`, `cuda:N` or `mps`; raises InputError, saying what there is, when this torch cannot compute on it here."""
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise InputError(f"dictionaries cannot be trained on device {name!r}; choose cpu, cuda, cuda:N or mps")
    if kind == "cuda":
        if not torch.cuda.is_available():
            why = "this torch was built without CUDA" if torch.version.cuda is None else "no NVIDIA GPU or driver answers"
            raise InputError(f"device {name}: there is no GPU to train on ({why}); choose cpu")
        if int(number or 0) >= torch.cuda.device_count():
            raise InputError(f"device {name}: this machine shows {torch.cuda.device_count()} GPUs, numbered from 0; name one of them")
    if kind == "mps" and not torch.backends.mps.is_available():
        why = "this torch was built without MPS" if not torch.backends.mps.is_built() else "macOS shows no Metal device"
        raise InputError(f"device {name}: there is no Apple GPU to train on ({why}); choose cpu")
    return torch.device(name)
