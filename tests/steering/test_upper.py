"""Laws of the replay: the layers above the hook, run alone on edited copies, give what whole forwards give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers.models.gemma3.modeling_gemma3 import Gemma3ForCausalLM

from saebias.errors import ModelError
from saebias.sae.module import SparseAutoencoder
from saebias.steering.edits import ablate_latents, ablate_sets
from saebias.steering.upper import UpperRun, record_upper, replay_error, replay_upper

Run = Callable[..., Tensor]


def recorded(decoder: Gemma3ForCausalLM, run: Run, layer: int, start: int) -> UpperRun:
    return record_upper(decoder.model.layers, layer, run, start)


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("start", [0, 3])
def test_an_unedited_replay_is_the_recorded_forward(decoder: Gemma3ForCausalLM, run: Run, layer: int, start: int) -> None:
    assert replay_error(recorded(decoder, run, layer, start)) < 1e-4


@pytest.mark.parametrize("layer", [0, 2])
def test_edited_copies_replayed_together_equal_whole_edited_forwards(
    decoder: Gemma3ForCausalLM, run: Run, sae: SparseAutoencoder, text_mask: Tensor, layer: int
) -> None:
    sets_SK = torch.tensor([[1, 2, 3, 4], [20, 30, 40, 50]])
    upper = recorded(decoder, run, layer, start=3)
    edited = ablate_sets(upper.x_BQD, text_mask[:, 3:], sae=sae, indices_SK=sets_SK, toward_F=1.0)
    with torch.no_grad():
        logits = decoder.lm_head(decoder.model.norm(replay_upper(upper, edited)))
    for replayed, indices in zip(logits, sets_SK.tolist(), strict=True):
        whole = run(layer, lambda x, chosen=indices: ablate_latents(x, text_mask, sae=sae, indices=chosen, toward_F=1.0))
        assert (whole - run()).abs().max() > 0.05
        torch.testing.assert_close(replayed[text_mask[:, 3:]], whole[:, 3:][text_mask[:, 3:]], atol=2e-4, rtol=1e-4)


def test_recording_leaves_no_hook_behind_even_after_an_error(decoder: Gemma3ForCausalLM, run: Run) -> None:
    def fails() -> None:
        raise ModelError("the picture is missing")

    with pytest.raises(ModelError, match="picture"):
        record_upper(decoder.model.layers, 1, fails)
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in decoder.model.layers)


def test_a_layer_that_is_not_there_is_refused(decoder: Gemma3ForCausalLM, run: Run) -> None:
    with pytest.raises(ModelError, match="layer 4 is not one of the decoder's 4 layers"):
        recorded(decoder, run, 4, 0)
