"""Our capture beside nnsight's and TransformerLens' on the same batch; run by `bench_extract --peers` in an interpreter that has them.

Reads JSON from stdin: model (a slice of the configuration), layers, captions, repeats.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from saebias.config.schema import Config, ModelConfig
from saebias.identifiers import HookPoint
from saebias.stages.bench_extract import medians

if TYPE_CHECKING:
    from saebias.vlm.inputs import ModelInputs
    from saebias.vlm.loading import LoadedModel


def main() -> None:
    """Print one line per library: its CPU seconds over ours."""
    from saebias.config.schema import RuntimeConfig
    from saebias.stages.model_access import open_model
    from saebias.vlm.forward import activations
    from saebias.vlm.inputs import build_inputs

    asked = json.load(sys.stdin)
    loaded = open_model(Config(model=ModelConfig(**asked["model"]), runtime=RuntimeConfig(threads=1)))
    hooks = [HookPoint(layer) for layer in asked["layers"]]
    images = None if loaded.processor is None else [_blank()] * len(asked["captions"])
    slot = "" if images is None else "{image}"
    inputs = build_inputs(loaded, images, [f"{slot}Describe the picture:"] * len(asked["captions"]), asked["captions"])
    makers: dict[str, Callable[[LoadedModel, ModelInputs, list[int]], Callable[[], object]]] = {"nnsight": with_nnsight, "transformer_lens": with_lens}
    for name, maker in makers.items():
        if find_spec(name) is None:
            print(f"{name}: not installed in {sys.executable}")
            continue
        theirs = maker(loaded, inputs, asked["layers"])
        found = medians(asked["repeats"], ours=lambda: activations(loaded, inputs, hooks), theirs=theirs)
        print(f"{name} {found['theirs']:.2f} CPU s, this program {found['ours']:.2f} CPU s on the same batch: {found['theirs'] / found['ours']:.2f}x")


def _blank() -> Any:
    from PIL import Image

    return Image.new("RGB", (112, 112), "grey")


def with_nnsight(loaded: LoadedModel, inputs: ModelInputs, layers: list[int]) -> Callable[[], object]:
    """A trace that saves the layers' outputs."""
    import torch

    wrapped: Any = import_module("nnsight").NNsight(loaded.model)
    place = "model.layers" if loaded.processor is None else "model.language_model.layers"

    def run() -> object:
        kept = []
        with torch.no_grad(), wrapped.trace(**inputs.tensors):
            modules = wrapped
            for part in place.split("."):
                modules = getattr(modules, part)
            for layer in layers:
                kept.append(modules[layer].output.save())
        return kept

    return run


def with_lens(loaded: LoadedModel, inputs: ModelInputs, layers: list[int]) -> Callable[[], object]:
    """`run_with_cache` of the residual stream behind the layers."""
    import torch

    names = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    model = import_module("transformer_lens").HookedTransformer.from_pretrained_no_processing(
        loaded.name, hf_model=loaded.model, tokenizer=loaded.tokenizer, device="cpu"
    )

    def run() -> object:
        with torch.no_grad():
            return model.run_with_cache(inputs.input_ids_BT, names_filter=lambda name: name in names, prepend_bos=False)

    return run


if __name__ == "__main__":
    main()
