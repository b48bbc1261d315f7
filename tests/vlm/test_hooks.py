"""Hooks read what the model computes, change only what they are told to, and are gone afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from saebias.identifiers import HookPoint
from saebias.vlm import hooks
from saebias.vlm.forward import Edit, activations, forward
from saebias.vlm.loading import LoadedModel
from saebias.vlm.positions import IMAGE, PAD, Where
from tests.vlm.rows import assert_same, batch


def _n_hooks(loaded: LoadedModel) -> int:
    return sum(len(module._forward_hooks) for module in loaded.adapter.layers.modules())


def test_what_is_captured_is_the_hidden_state(family: LoadedModel, images: list) -> None:
    inputs = batch(family, images)
    points = [HookPoint(layer) for layer in range(family.adapter.n_layers)]
    with torch.no_grad(), hooks.capture(family.adapter, points) as seen:
        output = family.model(**inputs.tensors, output_hidden_states=True, use_cache=False)
    for point in points[:-1]:
        assert torch.equal(seen[point], output.hidden_states[point.layer + 1])
    # The last entry of hidden_states is after the final norm.
    assert torch.equal(family.adapter.norm(seen[points[-1]]), output.hidden_states[-1])


def test_stopping_early_changes_no_activation_and_runs_no_later_layer(family: LoadedModel, images: list) -> None:
    inputs = batch(family, images)
    points = [HookPoint(0), HookPoint(1)]
    later = []
    handle = family.adapter.layers[2].register_forward_hook(lambda *_: later.append(1))
    try:
        stopped = activations(family, inputs, points)
    finally:
        handle.remove()
    assert not later
    with torch.no_grad(), hooks.capture(family.adapter, points) as seen:
        family.model(**inputs.tensors)
    assert all(torch.equal(stopped[point], seen[point]) for point in points)


def test_the_blocks_add_up_to_the_residual_stream(family: LoadedModel, images: list) -> None:
    # Layer 2, because layer 1 of the mllama is one of its cross-attention layers, which gate what they add.
    inputs = batch(family, images)
    before, after, attention, mlp = HookPoint(1), HookPoint(2), HookPoint(2, "attn_out"), HookPoint(2, "mlp_out")
    seen = activations(family, inputs, [before, after, attention, mlp])
    assert_same(seen[before] + seen[attention] + seen[mlp], seen[after], 1e-6)


def test_an_identity_edit_is_bit_identical(family: LoadedModel, images: list) -> None:
    inputs = batch(family, images)
    plain = forward(family, inputs)
    for where in ("all", "text", "caption"):
        for same in (lambda x, _: x, lambda x, _: x.clone()):
            assert torch.equal(forward(family, inputs, edit=Edit({HookPoint(1): same}, where)), plain)


def test_an_edit_changes_the_positions_asked_for_and_no_other(image_family: LoadedModel, images: list) -> None:
    inputs = batch(image_family, images)
    point = HookPoint(1)
    plain = activations(image_family, inputs, [point])[point]
    masks: dict[Where, torch.Tensor] = {
        "all": inputs.token_kind_BT != PAD,
        "image": inputs.token_kind_BT == IMAGE,
        "text": inputs.token_kind_BT >= 2,
        "after_image": (inputs.token_kind_BT >= 2) & inputs.after_image_BT,
        "prompt": inputs.token_kind_BT == 2,
        "caption": inputs.token_kind_BT == 3,
    }
    for where, mask_BT in masks.items():
        edited = activations(image_family, inputs, [point], edit=Edit({point: lambda x, _: x + 1.0}, where))[point]
        assert torch.equal(edited, torch.where(mask_BT[:, :, None], plain + 1.0, plain)), where


def test_an_edit_learns_kinds_positions_and_row_numbers(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images)
    contexts = []
    forward(gemma3, inputs, edit=Edit({HookPoint(0): lambda x, context: contexts.append(context) or x}, "text"))
    (context,) = contexts
    assert context.hook == HookPoint(0)
    assert torch.equal(context.kind_BT, inputs.token_kind_BT)
    assert torch.equal(context.position_BT, inputs.position_BT)
    assert torch.equal(context.row_B, inputs.row_B)


def test_an_edit_on_positions_sees_only_their_vectors_and_rows(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images)
    shift_B = torch.tensor([1.0, 2.0, 3.0])
    rowwise = Edit({HookPoint(1): lambda x, context: x + shift_B[context.row_B][:, None, None]}, "caption")
    gathered = Edit({HookPoint(1): hooks.on_positions(lambda x_ND, row_N: x_ND + shift_B[row_N][:, None])}, "caption")
    assert torch.equal(forward(gemma3, inputs, edit=gathered), forward(gemma3, inputs, edit=rowwise))


def test_capture_inside_an_edit_sees_the_edited_activation(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images)
    seen = activations(gemma3, inputs, [HookPoint(1)], edit=Edit({HookPoint(1): lambda x, _: torch.zeros_like(x)}, "all"))
    assert not seen[HookPoint(1)][inputs.attention_mask_BT.bool()].any()


def test_hooks_are_gone_afterwards_even_after_an_error(family: LoadedModel, images: list) -> None:
    inputs = batch(family, images)
    before = _n_hooks(family)

    def broken(_x: torch.Tensor, _context: hooks.EditContext) -> torch.Tensor:
        raise ZeroDivisionError

    activations(family, inputs, [HookPoint(0)])
    with pytest.raises(ZeroDivisionError):
        forward(family, inputs, edit=Edit({HookPoint(0): lambda x, _: x, HookPoint(2): broken}))
    with pytest.raises(KeyError), hooks.capture(family.adapter, [HookPoint(0), HookPoint(2)]):
        raise KeyError
    assert _n_hooks(family) == before


def test_layers_that_return_tuples_are_read_and_edited() -> None:
    class Older(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
            return x + 1, "attention weights"

    layer = Older()

    class OneLayer:
        def module(self, _hook: HookPoint) -> torch.nn.Module:
            return layer

    adapter: Any = OneLayer()
    x = torch.zeros(1, 2, 3)
    everywhere = torch.ones(1, 2, dtype=torch.bool)
    marks = {"mask_BT": everywhere, "kind_BT": everywhere.byte(), "position_BT": everywhere.long(), "row_B": torch.zeros(1)}
    with hooks.edit(adapter, {HookPoint(0): lambda x, _: x * 5}, **marks), hooks.capture(adapter, [HookPoint(0)]) as seen:
        output = layer(x)
    assert output[1] == "attention weights"
    assert torch.equal(output[0], torch.full((1, 2, 3), 5.0))
    assert torch.equal(seen[HookPoint(0)], output[0])
