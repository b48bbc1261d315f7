"""Which kernels run: compiled ones where they can, plain torch elsewhere, and why not the fastest where they cannot."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from saebias.errors import InputError
from saebias.sae.kernels.contract import Kernels
from saebias.sae.kernels.plain import PlainKernels

CHOICES = ("auto", "numba", "triton", "torch")
COMPILED_FOR = {"cpu": "numba", "cuda": "triton"}
"""The compiled kernels of each kind of device, and the package they need, which has the same name."""


@dataclass(frozen=True)
class Choice:
    """The kernels taken, and why not the compiled ones of the device where these were left out unasked."""

    name: str
    why_not: str | None = None


@cache
def is_installed(package: str) -> bool:
    """Whether the package can be imported here."""
    return importlib.util.find_spec(package) is not None


def kernel_choice(name: str, device_type: str, *, has: Callable[[str], bool] = is_installed) -> Choice:
    """Which kernels `name` means for weights on a device of that type (cpu, cuda, mps); `has` says which packages there are.

    `auto` takes numba on the CPU and Triton on a CUDA device, or else plain torch, with the reason. Raises InputError for a name that is unknown or that
    cannot be had: kernels asked for by name are never replaced.
    """
    if name not in CHOICES:
        raise InputError(f"unknown SAE kernels {name!r}; choose one of {', '.join(CHOICES)}")
    best = COMPILED_FOR.get(device_type)
    if name == "auto":
        if best is None:
            return Choice("torch", f"nothing is compiled for {device_type}")
        return Choice(best) if has(best) else Choice("torch", f"{best} is not installed (pip install {best})")
    # Triton's interpreter computes on the CPU, slowly: for tests.
    is_interpreted = name == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    if name != "torch" and name != best and not is_interpreted:
        raise InputError(f"SAE kernels {name!r} do not compute on {device_type}; choose auto")
    if name != "torch" and not has(name):
        raise InputError(f"SAE kernels {name!r} were asked for but {name} is not installed; install it or choose auto")
    return Choice(name)


def choose_kernels(name: str = "auto", device_type: str = "cpu") -> tuple[Kernels, Choice]:
    """The kernels that `kernel_choice` names, ready to use, with the choice.

    Triton's are tried first on a few rows: when they do not compile or do not give what plain torch gives, `auto` takes plain torch and says so, and `triton`
    raises InputError.
    """
    choice = kernel_choice(name, device_type)
    # Imported here: both are optional, and take half a second.
    if choice.name == "numba":
        from saebias.sae.kernels.compiled import CompiledKernels

        return CompiledKernels(), choice
    if choice.name == "triton":
        from saebias.sae.kernels.triton_trial import fault

        if (why_not := fault(device_type)) is None:
            from saebias.sae.kernels.triton_kernels import TritonKernels

            return TritonKernels(), choice
        if name == "triton":
            raise InputError(f"the Triton kernels cannot be used here: {why_not}; choose auto")
        choice = Choice("torch", why_not)
    return PlainKernels(), choice


def can_compile_for(tensor: Tensor) -> bool:
    """Whether the compiled loops take this tensor: float32 in main memory, in one piece, with no gradient wanted."""
    return is_installed("numba") and tensor.device.type == "cpu" and tensor.element_size() == 4 and tensor.is_contiguous() and not tensor.requires_grad
