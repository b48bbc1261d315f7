"""Which kernels run: compiled ones where they can, plain torch elsewhere."""

from __future__ import annotations

import importlib.util
from functools import cache

from torch import Tensor

from saebias.errors import InputError
from saebias.sae.kernels.contract import Kernels
from saebias.sae.kernels.plain import PlainKernels

CHOICES = ("auto", "numba", "torch")


@cache
def has_numba() -> bool:
    """Whether the compiled kernels can be imported here."""
    return importlib.util.find_spec("numba") is not None


def choose_kernels(name: str = "auto") -> Kernels:
    """The kernels of that name; `auto` takes the compiled ones when numba is installed. Raises InputError for a name or a choice that cannot be had."""
    if name not in CHOICES:
        raise InputError(f"unknown SAE kernels {name!r}; choose one of {', '.join(CHOICES)}")
    if name == "numba" and not has_numba():
        raise InputError("SAE kernels 'numba' were asked for but numba is not installed; install it or choose auto")
    if name == "torch" or not has_numba():
        return PlainKernels()
    # Imported here: numba is optional, and takes half a second.
    from saebias.sae.kernels.compiled import CompiledKernels

    return CompiledKernels()


def can_compile_for(tensor: Tensor) -> bool:
    """Whether the compiled loops take this tensor: float32 in main memory, in one piece, with no gradient wanted."""
    return has_numba() and tensor.device.type == "cpu" and tensor.element_size() == 4 and tensor.is_contiguous() and not tensor.requires_grad
