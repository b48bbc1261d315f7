"""Patching inside the vision tower: one block's attention or MLP output of the woman's picture put into the tower's run on the man's.

What a whole block or the projector passes on holds everything there is of the picture, so patching that moves the gap all the way; only the parts of a block
say where in the tower gender is made. Shapes: N pictures, P patches, D tower width.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from saebias.errors import InputError
from saebias.mechanistic.decisions import Decisions, gap_under
from saebias.mechanistic.patching import PatchPlace
from saebias.mechanistic.scene_runs import prefix_of
from saebias.vlm.images import ImageFeatures, encode_images, encode_pixels, process_images
from saebias.vlm.loading import LoadedModel

ATTENTION_NAMES = ("self_attn", "attn", "attention")
MLP_NAMES = ("mlp", "feed_forward")

Asked = Callable[[ImageFeatures], dict[str, Decisions]]
"""Decisions per language about given picture features."""


def tower_blocks(loaded: LoadedModel) -> list[dict[str, nn.Module]]:
    """The vision tower's blocks as {"attention": module, "mlp": module}; empty for a model whose tower has no such blocks, or no tower.

    The tower is the longest list of modules outside the decoder whose members all have an attention and an MLP.
    """
    inside = {id(module) for module in loaded.adapter.decoder.modules()}
    lists = [module for module in loaded.model.modules() if isinstance(module, nn.ModuleList) and id(module) not in inside]
    found = [[block for part in modules if (block := _block(part)) is not None] for modules in lists]
    whole = [blocks for blocks, modules in zip(found, lists, strict=True) if len(blocks) == len(modules) and blocks]
    return max(whole, key=len, default=[])


def _block(part: nn.Module) -> dict[str, nn.Module] | None:
    children = dict(part.named_children())
    attention = next((children[name] for name in ATTENTION_NAMES if name in children), None)
    mlp = next((children[name] for name in MLP_NAMES if name in children), None)
    return None if attention is None or mlp is None else {"attention": attention, "mlp": mlp}


@torch.no_grad()
def patch_tower(loaded: LoadedModel, women: Sequence[Any], men: Sequence[Any], asked: Asked) -> dict[str, dict[PatchPlace, Tensor]]:
    """Per language and place the gap [N] of the men's pictures with one part of the tower patched; the projector's output last, which is everything.

    `women` and `men` are pictures of the same scenes and sizes. Raises InputError when their numbers differ.
    """
    if len(women) != len(men):
        raise InputError(f"{len(women)} pictures of women for {len(men)} of men; give the same scenes")
    blocks = tower_blocks(loaded)
    modules = {PatchPlace("vision tower", layer, site, "image"): module for layer, block in enumerate(blocks) for site, module in block.items()}
    with _recorded(list(modules.values())) as donors:
        features = encode_images(loaded, women, batch_size=len(women))
    found: dict[str, dict[PatchPlace, Tensor]] = {}
    pixels = process_images(loaded, men)
    for place, module in modules.items():
        with _replaced(module, donors[id(module)]):
            patched = encode_pixels(loaded, pixels)
        _ask(loaded, place, asked(patched), found)
    _ask(loaded, PatchPlace("projector", None, "output", "image"), asked(features), found)
    return found


def _ask(loaded: LoadedModel, place: PatchPlace, asked: dict[str, Decisions], found: dict[str, dict[PatchPlace, Tensor]]) -> None:
    prefix = None
    for language, decisions in asked.items():
        prefix = prefix_of(loaded, decisions) if prefix is None else prefix.take(range(len(decisions)), decisions.inputs)
        found.setdefault(language, {})[place] = gap_under(loaded, decisions, prefix=prefix)


@contextmanager
def _recorded(modules: Sequence[nn.Module]) -> Generator[dict[int, Tensor]]:
    """A dictionary that one pass inside the block fills: id of the module -> its output."""
    seen: dict[int, Tensor] = {}

    def reader(key: int) -> Callable[[nn.Module, tuple, Any], None]:
        def read(_module: nn.Module, _args: tuple, output: Any) -> None:
            seen[key] = output[0] if isinstance(output, tuple) else output

        return read

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(reader(id(module))).remove)
        yield seen


@contextmanager
def _replaced(module: nn.Module, donor: Tensor) -> Generator[None]:
    """Inside the block the module's output is `donor`."""

    def write(_module: nn.Module, _args: tuple, output: Any) -> Any:
        return (donor, *output[1:]) if isinstance(output, tuple) else donor

    handle = module.register_forward_hook(write)
    try:
        yield
    finally:
        handle.remove()
