"""The structure read off a model, and the lens that must be the model at its last layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from saebias.errors import ModelError
from saebias.identifiers import HookPoint
from saebias.vlm.adapter import build_adapter
from saebias.vlm.forward import activations, forward
from saebias.vlm.loading import LoadedModel
from tests.vlm.families import build_family, gemma3_with_softcap
from tests.vlm.rows import assert_same, batch


def test_unembedding_the_last_layer_is_the_model(family: LoadedModel, images: list) -> None:
    inputs = batch(family, images)
    last = HookPoint(family.adapter.n_layers - 1)
    x_BTD = activations(family, inputs, [last])[last]
    assert_same(family.adapter.unembed(x_BTD), forward(family, inputs), 1e-6)


def test_the_adapter_knows_the_sizes_of_the_model(family: LoadedModel) -> None:
    assert family.adapter.n_layers == 3
    assert family.adapter.d_model == 32
    assert family.adapter.vocab_size == family.model.get_output_embeddings().weight.shape[0]


def test_a_layer_that_does_not_exist_is_an_error_naming_the_range(family: LoadedModel) -> None:
    with pytest.raises(ModelError, match=r"layer 3 does not exist .* its layers are 0 to 2"):
        family.adapter.module(HookPoint(3))


def _tiny_gemma2(cap: float | None) -> Gemma2ForCausalLM:
    sizes: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
    torch.manual_seed(1)
    return Gemma2ForCausalLM(Gemma2Config(**sizes, num_key_value_heads=1, final_logit_softcapping=cap))


def test_a_soft_cap_that_the_model_applies_is_part_of_the_lens() -> None:
    model = _tiny_gemma2(2.0).eval()
    adapter = build_adapter(model)
    assert adapter.softcap == 2.0
    with torch.no_grad():
        output = model(input_ids=torch.tensor([[3, 4, 5]]), output_hidden_states=True)
        # The last hidden state that transformers returns has been through the final norm already.
        capped = torch.tanh(adapter.head(output.hidden_states[-1]) / 2) * 2
    torch.testing.assert_close(output.logits, capped)


def test_a_soft_cap_that_the_model_ignores_is_no_part_of_the_lens(images: list) -> None:
    loaded = gemma3_with_softcap(0.5)
    assert loaded.model.config.text_config.final_logit_softcapping == 0.5
    assert loaded.adapter.softcap is None
    inputs = batch(loaded, images)
    last = HookPoint(loaded.adapter.n_layers - 1)
    assert_same(loaded.adapter.unembed(activations(loaded, inputs, [last])[last]), forward(loaded, inputs), 1e-6)


def test_measuring_the_soft_cap_leaves_no_hook_behind() -> None:
    model = _tiny_gemma2(2.0).eval()
    build_adapter(model)
    assert all(not module._forward_hooks for module in model.modules())


def test_an_unknown_structure_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2))
    with pytest.raises(ModelError, match=r"GPT2Model without a final `norm`"):
        build_adapter(model)


def test_blocks_of_a_cross_attention_layer_cannot_be_hooked_apart() -> None:
    adapter = build_family("mllama").adapter
    assert adapter.module(HookPoint(1)) is adapter.layers[1]
    with pytest.raises(ModelError, match=r"L01.attn_out cannot be hooked.*use the site resid_post"):
        adapter.module(HookPoint(1, "attn_out"))
