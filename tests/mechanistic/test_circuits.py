"""Laws of the model's products: heads are what the attention computes, the unembedding is the model's, a planted spectrum comes back in words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from saebias.errors import InputError, ModelError
from saebias.mechanistic.circuits import activation_matrix, direction_rows, head_circuits, spectrum_row, unembedding
from saebias.mechanistic.factored import FactoredMatrix
from saebias.vlm.loading import LoadedModel


@pytest.mark.parametrize("family", ["gemma3_text", "llama", "qwen2", "gemma3", "llava", "qwen2_vl"])
def test_the_heads_of_a_layer_sum_to_what_its_attention_does_with_one_token(family: str, build_family: Callable[[str], LoadedModel]) -> None:
    adapter = build_family(family).adapter
    attention = adapter.layer(1).self_attn
    x_ND = torch.randn(5, adapter.d_model, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        bias = 0 if attention.v_proj.bias is None else attention.v_proj.bias
        n_values = attention.v_proj.out_features // attention.head_dim
        value = (attention.v_proj(x_ND) - bias).view(5, n_values, attention.head_dim)
        # A token that sees itself alone: every head passes on its own value.
        expected = attention.o_proj(value.repeat_interleave(attention.o_proj.in_features // (n_values * attention.head_dim), dim=1).flatten(1))
    heads = head_circuits(adapter, 1)
    assert len(heads) == 4 and all(head.shape == (adapter.d_model, adapter.d_model) for head in heads)
    np.testing.assert_allclose(sum(x_ND.numpy() @ head.dense() for head in heads), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("family", ["gemma3_text", "llama"])
def test_the_unembedding_is_the_models_up_to_a_constant_over_the_vocabulary(family: str, build_family: Callable[[str], LoadedModel]) -> None:
    adapter = build_family(family).adapter
    x_ND = torch.randn(4, adapter.d_model, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = adapter.unembed(x_ND).numpy()
    scale = x_ND.pow(2).mean(-1, keepdim=True).sqrt().numpy()
    np.testing.assert_allclose((x_ND.numpy() / scale) @ unembedding(adapter), expected - expected.mean(1, keepdims=True), atol=1e-3)


def test_an_attention_without_single_maps_is_refused(build_family: Callable[[str], LoadedModel]) -> None:
    adapter = build_family("mllama").adapter
    crossing = [layer for layer in range(adapter.n_layers) if "self_attn" not in dict(adapter.layer(layer).named_children())]
    with pytest.raises(ModelError, match="has no v_proj and o_proj"):
        head_circuits(adapter, crossing[0])


def test_a_planted_spectrum_comes_back_in_numbers_and_words() -> None:
    rng = np.random.default_rng(0)
    product = FactoredMatrix(rng.normal(size=(40, 3)), np.diag([9.0, 3.0, 1.0]) @ np.eye(3, 8) + 0.0)
    row = spectrum_row(product, "planted", 2)
    assert (row.rank, row.n_rows, row.n_columns, row.n_inner) == (3, 40, 8, 3) and 1 <= row.stable_rank <= row.participation_ratio <= row.rank
    words = "abcdefgh"
    first, second = direction_rows(product, None, words.__getitem__, "planted", 2, n_directions=2, n_tokens=1)
    assert first.tokens_raised == "a" and second.tokens_raised == "b" and first.energy_share > 0.8
    swapped = np.eye(8)[::-1]
    assert direction_rows(product, swapped, words.__getitem__, "planted", 2, n_directions=1, n_tokens=1)[0].tokens_raised == "h"


def test_a_head_that_passes_on_what_it_reads_copies() -> None:
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(10, 4)))[0]
    copying, negating = (spectrum_row(FactoredMatrix(sign * basis, basis.T), "head", 0, head=0).copying for sign in (1, -1))
    assert copying == pytest.approx(1) and negating == pytest.approx(-1)


def test_activations_are_centred_and_what_has_no_spectrum_says_so() -> None:
    x_ND = np.random.default_rng(2).normal(size=(50, 6)) + 100
    np.testing.assert_allclose(activation_matrix(x_ND).singular_values, np.linalg.svd(x_ND - x_ND.mean(0), compute_uv=False))
    with pytest.raises(InputError, match="1 rows of activations"):
        activation_matrix(x_ND[:1])
    empty = activation_matrix(np.ones((5, 3)))
    row = spectrum_row(empty, "activations", 1, language="en")
    assert row.rank == 0 and np.isnan(row.effective_rank) and row.reason == "all values are 0: no spectrum"
    assert direction_rows(empty, None, str, "activations", 1) == []
