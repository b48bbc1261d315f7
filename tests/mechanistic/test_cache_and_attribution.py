"""Laws of the cache and of logit attribution: activations are the model's own, memory is bounded, and the parts sum to the logit difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

import saebias.mechanistic
from saebias.errors import InputError, ModelError
from saebias.identifiers import HookPoint
from saebias.mechanistic.cache import ActivationCache
from saebias.mechanistic.logit_attribution import attribute_logits, check_parts
from saebias.vlm.hooks import capture
from saebias.vlm.inputs import ModelInputs, build_inputs
from saebias.vlm.loading import LoadedModel


@pytest.fixture(scope="module")
def loaded(build_family: Callable[[str], LoadedModel]) -> LoadedModel:
    return build_family("gemma3")


@pytest.fixture(scope="module")
def batches(loaded: LoadedModel) -> list[ModelInputs]:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(3)]
    captions = [["a woman cook", "a man cook with a ball"], ["a cook"]]
    return [build_inputs(loaded, pictures[: len(texts)], ["{image}describe"] * len(texts), texts) for texts in captions]


def hooks(loaded: LoadedModel) -> list[HookPoint]:
    return [HookPoint(layer) for layer in range(loaded.adapter.n_layers)]


def test_the_cache_equals_the_models_hidden_states_for_all_but_the_last_layer(loaded: LoadedModel, batches: list[ModelInputs]) -> None:
    with ActivationCache(hooks(loaded), max_bytes=2**26).record(loaded, batches) as cache:
        assert list(cache) == hooks(loaded) and len(cache[HookPoint(0)]) == 3
        with torch.no_grad():
            states = loaded.model(**batches[0].tensors, output_hidden_states=True).hidden_states
        mask = batches[0].attention_mask_BT.bool()
        for hook in hooks(loaded)[:-1]:
            torch.testing.assert_close(cache[hook][:2, : mask.shape[1]][mask], states[hook.layer + 1][mask])
        assert cache.stacked().shape[:2] == (loaded.adapter.n_layers, 3)
        assert cache.mask.sum() == sum(int(batch.attention_mask_BT.sum()) for batch in batches)
    assert cache.n_bytes == 0
    with pytest.raises(InputError, match="the cache is empty"):
        cache[HookPoint(0)]


def test_the_cache_keeps_its_memory_bound_and_leaves_no_hook_after_the_error(loaded: LoadedModel, batches: list[ModelInputs]) -> None:
    one = ActivationCache(hooks(loaded), max_bytes=2**26).record(loaded, batches[:1]).n_bytes
    cache = ActivationCache(hooks(loaded), max_bytes=one)
    # transformers leaves hooks of its own on a model that was once asked for hidden states.
    before = [len(layer._forward_hooks) for layer in loaded.adapter.layers]
    with pytest.raises(InputError, match="cache fewer layers or rows"):
        cache.record(loaded, batches)
    assert cache.n_bytes == one
    assert [len(layer._forward_hooks) for layer in loaded.adapter.layers] == before
    held = sum(cache[hook].numel() * 4 for hook in cache)
    assert held == one


def test_pooling_is_a_mean_over_the_positions_asked_for(loaded: LoadedModel, batches: list[ModelInputs]) -> None:
    cache = ActivationCache([HookPoint(1)], max_bytes=2**26).record(loaded, batches[:1])
    keep = torch.zeros_like(cache.mask)
    keep[:, 2:4] = True
    torch.testing.assert_close(cache.pooled(HookPoint(1), keep), cache[HookPoint(1)][:, 2:4].mean(1))
    with pytest.raises(InputError, match="2 rows have no position"):
        cache.pooled(HookPoint(1), torch.zeros_like(keep))
    with pytest.raises(KeyError, match="was not cached"):
        cache[HookPoint(0)]


def parts_of(loaded: LoadedModel, inputs: ModelInputs) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """(what each component added at the last prompt position, the stream after the last layer, the logits there)."""
    adapter, embedded = loaded.adapter, []
    added = [HookPoint(layer, site) for layer in range(adapter.n_layers) for site in ("attn_out", "mlp_out")]
    final = HookPoint(adapter.n_layers - 1)
    handle = adapter.layers[0].register_forward_pre_hook(lambda module, args: embedded.append(args[0]))
    with torch.no_grad(), capture(adapter, [*added, final]) as seen:
        logits = loaded.model(**inputs.tensors).logits
    handle.remove()
    parts = {"embeddings": embedded[0][:, -1], **{str(hook): seen[hook][:, -1] for hook in added}}
    return parts, seen[final][:, -1], logits[:, -1]


def test_the_parts_sum_to_the_models_logit_difference(loaded: LoadedModel, batches: list[ModelInputs]) -> None:
    parts, final_ND, logits_NV = parts_of(loaded, batches[1])
    check_parts(parts, final_ND)
    found = attribute_logits(loaded.adapter, parts, [11], [12])
    assert found.components[0] == "embeddings" and found.contribution_CN.shape == (1 + 2 * loaded.adapter.n_layers, 1)
    np.testing.assert_allclose(found.contribution_CN.sum(0), (logits_NV[:, 11] - logits_NV[:, 12]).numpy(), atol=1e-3)
    assert found.largest_error < 1e-3


def test_a_forgotten_component_is_noticed(loaded: LoadedModel, batches: list[ModelInputs]) -> None:
    parts, final_ND, _ = parts_of(loaded, batches[1])
    del parts["L00.mlp_out"]
    with pytest.raises(ModelError, match="parts miss the residual stream"):
        check_parts(parts, final_ND)


def test_every_tool_can_be_had_from_the_package_by_its_name() -> None:
    assert len(saebias.mechanistic.__all__) == 12
    for name in saebias.mechanistic.__all__:
        assert getattr(saebias.mechanistic, name).__name__ == name
    with pytest.raises(AttributeError, match="no tool 'Lens'"):
        saebias.mechanistic.Lens  # noqa: B018
