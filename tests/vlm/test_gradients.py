"""The gradient of the gap is what small changes of the activation do to the gap."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.vlm.forward import Edit, activations
from saebias.vlm.gradients import gap_gradient, gap_gradients
from saebias.vlm.loading import LoadedModel
from saebias.vlm.positions import PAD
from saebias.vlm.prompts import decision_token_count
from saebias.vlm.scoring import decision_gap
from tests.vlm.rows import assert_same, batch

FEMALE = [["a woman cook", "a woman with"], ["a woman"], ["طباخة مع"]]
MALE = [["a man cook"], ["a man", "a guy"], ["طباخ مع"]]


def test_the_gap_beside_the_gradient_is_the_decision_gap(image_family: LoadedModel, images: list) -> None:
    inputs = batch(image_family, images, None)
    result = gap_gradient(image_family, inputs, FEMALE, MALE, HookPoint(1))
    np.testing.assert_allclose(result.gap_B, decision_gap(image_family, inputs, FEMALE, MALE), atol=3e-4)


def test_the_last_column_is_the_decision_position(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images, None)
    result = gap_gradient(gemma3, inputs, FEMALE, MALE, HookPoint(1))
    for row in range(3):
        common = decision_token_count(gemma3, inputs.prompts[row], FEMALE[row], MALE[row])
        assert result.inputs.position_BT[row, -1] == inputs.prompt_length_B[row] - 1 + common
    x_BTD = activations(gemma3, result.inputs, [HookPoint(1)])[HookPoint(1)]
    assert torch.equal(x_BTD, result.x_BTD)


@pytest.mark.parametrize("layer", [0, 2])
def test_the_gradient_predicts_a_small_change(gemma3: LoadedModel, images: list, layer: int) -> None:
    inputs = batch(gemma3, images, None)
    hook = HookPoint(layer)
    result = gap_gradient(gemma3, inputs, FEMALE, MALE, hook)
    delta_BTD = torch.randn(result.x_BTD.shape, generator=torch.Generator().manual_seed(3))
    real_BT = result.inputs.token_kind_BT != PAD
    predicted = (result.grad_BTD * delta_BTD)[real_BT.nonzero(as_tuple=True)].sum(-1)
    predicted_B = torch.zeros(3).index_add(0, real_BT.nonzero()[:, 0], predicted)
    step = 2e-3
    moved = []
    for sign in (1, -1):
        # Only the columns up to the decision move: the pass over the rest of the continuations has fewer columns.
        def shift(x: torch.Tensor, _context: object, sign: int = sign) -> torch.Tensor:
            return x + sign * step * delta_BTD if x.shape == delta_BTD.shape else x

        moved.append(gap_gradient(gemma3, inputs, FEMALE, MALE, HookPoint(layer), edit=Edit({hook: shift}, "all")).gap_B)
    measured = (moved[0] - moved[1]) / (2 * step)
    np.testing.assert_allclose(measured, predicted_B.numpy(), rtol=2e-2, atol=2e-2)


def test_several_hook_points_at_once_equal_one_at_a_time(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images, None)
    points = [HookPoint(2), HookPoint(0), HookPoint(1, "mlp_out"), HookPoint(1)]
    together = gap_gradients(gemma3, inputs, FEMALE, MALE, points)
    for point in points:
        alone = gap_gradient(gemma3, inputs, FEMALE, MALE, point)
        assert_same(together[point].grad_BTD, alone.grad_BTD, 1e-5)
        assert torch.equal(together[point].x_BTD, alone.x_BTD)


def test_padding_has_no_gradient(image_family: LoadedModel, images: list) -> None:
    result = gap_gradient(image_family, batch(image_family, images, None), FEMALE, MALE, HookPoint(0))
    is_pad_BT = result.inputs.token_kind_BT == PAD
    assert is_pad_BT.any()
    assert not result.grad_BTD[is_pad_BT].any()
    assert result.grad_BTD[~is_pad_BT].any()


def test_no_weight_keeps_a_gradient(gemma3: LoadedModel, images: list) -> None:
    gap_gradient(gemma3, batch(gemma3, images, None), FEMALE, MALE, HookPoint(0))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in gemma3.model.parameters())


def test_a_row_without_female_continuations_is_refused(gemma3: LoadedModel, images: list) -> None:
    with pytest.raises(InputError, match="at least one F and one M"):
        gap_gradient(gemma3, batch(gemma3, images, None), [[], ["a woman"], ["طباخة مع"]], MALE, HookPoint(0))
