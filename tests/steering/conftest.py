"""A tiny random decoder, a random dictionary on it, and one batch: enough to hold laws of interventions against."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3ForCausalLM

from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.vlm.loading import LoadedModel

D_MODEL = 32
N_LATENTS = 96


@pytest.fixture(scope="session")
def decoder() -> Gemma3ForCausalLM:
    """Four Gemma-3 text layers with random weights large enough that an edit matters."""
    config = Gemma3TextConfig(
        vocab_size=50, hidden_size=D_MODEL, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        sliding_window=16, layer_types=["sliding_attention", "full_attention"] * 2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(3)
    model = Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.ndim == 2 else None
    return model


@pytest.fixture(scope="session")
def sae() -> SparseAutoencoder:
    """A dictionary with random directions and biases: reconstruction is poor, so a lost error term would show."""
    sae = SparseAutoencoder(SaeSpec(d_model=D_MODEL, n_latents=N_LATENTS, k=12, seed=11))
    generator = torch.Generator().manual_seed(12)
    with torch.no_grad():
        sae.b_dec_D.normal_(generator=generator)
        sae.b_enc_F.normal_(std=0.3, generator=generator)
    return sae.requires_grad_(False)


@pytest.fixture(scope="session")
def tokens() -> tuple[Tensor, Tensor]:
    """Token ids [5 rows, 9 positions] with a right-padded row, and their attention mask."""
    ids = torch.randint(3, 50, (5, 9), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return ids, mask


@pytest.fixture
def run(decoder: Gemma3ForCausalLM, tokens: tuple[Tensor, Tensor]) -> Callable[..., Tensor]:
    """`run(layer, change)`: the logits of the batch with `change(x_BTD) -> x_BTD` put on the residual stream after a layer."""

    def forward(layer: int | None = None, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        handles = []
        if layer is not None and change is not None:

            def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
                return change(output)

            handles.append(decoder.model.layers[layer].register_forward_hook(hook))
        try:
            with torch.no_grad():
                return decoder(input_ids=tokens[0], attention_mask=tokens[1], use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()

    return forward


@pytest.fixture
def text_mask(tokens: tuple[Tensor, Tensor]) -> Tensor:
    """True on the positions an edit may touch: from the fourth on."""
    mask_BT = tokens[1].bool().clone()
    mask_BT[:, :3] = False
    return mask_BT


@pytest.fixture(scope="session")
def build_family() -> Callable[[str], LoadedModel]:
    """`build_family(name)`: the tiny model of a family, from the builders that the tests of the models use."""
    if "families" not in sys.modules:
        spec = importlib.util.spec_from_file_location("families", Path(__file__).parents[1] / "vlm" / "families.py")
        assert spec is not None and spec.loader is not None
        sys.modules["families"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["families"])
    return sys.modules["families"].build_family
