"""Laws of the edits: what each arm must be equal to, and what it must leave alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.sae.module import SparseAutoencoder
from saebias.steering import edits
from saebias.steering.erasure import fit_eraser

Run = Callable[..., Tensor]
D_MODEL, N_LATENTS = 32, 96


@pytest.fixture
def x_BTD() -> Tensor:
    return 3 * torch.randn(4, 6, D_MODEL, generator=torch.Generator().manual_seed(21))


@pytest.fixture
def mask_BT() -> Tensor:
    return torch.rand(4, 6, generator=torch.Generator().manual_seed(22)) < 0.6


def test_a_hook_that_does_nothing_leaves_the_logits_bit_identical(run: Run, text_mask: Tensor) -> None:
    assert torch.equal(run(2, lambda x: edits.hook_that_does_nothing(x, text_mask)), run())


def test_reconstruction_with_its_error_equals_the_unhooked_model(run: Run, text_mask: Tensor, sae: SparseAutoencoder) -> None:
    torch.testing.assert_close(run(2, lambda x: edits.reconstruct_with_error(x, text_mask, sae=sae)), run(), atol=1e-4, rtol=1e-5)


def test_reconstruction_alone_changes_the_model_so_the_error_term_is_no_formality(run: Run, text_mask: Tensor, sae: SparseAutoencoder) -> None:
    assert (run(2, lambda x: edits.reconstruct(x, text_mask, sae=sae)) - run()).abs().max() > 0.1


def test_ablating_no_latent_changes_nothing(run: Run, text_mask: Tensor, sae: SparseAutoencoder) -> None:
    assert torch.equal(run(1, lambda x: edits.ablate_latents(x, text_mask, sae=sae, indices=[])), run())


@pytest.mark.parametrize("strength", [0.25, 1.0, 1.5])
def test_ablation_is_the_decoding_of_the_edited_codes_plus_the_error(x_BTD: Tensor, mask_BT: Tensor, sae: SparseAutoencoder, strength: float) -> None:
    chosen, toward_F = [3, 40, 77], torch.rand(N_LATENTS, generator=torch.Generator().manual_seed(1))
    x_ND = x_BTD[mask_BT]
    codes_NF = sae.encode(x_ND)
    error_ND = x_ND - sae.decode(codes_NF)
    edited_NF = codes_NF.clone()
    edited_NF[:, chosen] += strength * (toward_F[chosen] - codes_NF[:, chosen])
    expected_ND = sae.decode(edited_NF) + error_ND
    ablated = edits.ablate_latents(x_BTD, mask_BT, sae=sae, indices=chosen, toward_F=toward_F, strength=strength)
    torch.testing.assert_close(ablated[mask_BT], expected_ND, atol=1e-5, rtol=1e-5)
    assert torch.equal(ablated[~mask_BT], x_BTD[~mask_BT])


def test_ablating_every_latent_toward_its_own_value_is_the_identity(sae: SparseAutoencoder) -> None:
    x_BTD, mask_BT = torch.randn(1, 1, D_MODEL), torch.ones(1, 1, dtype=torch.bool)
    own_F = sae.encode(x_BTD[0])[0]
    torch.testing.assert_close(edits.ablate_latents(x_BTD, mask_BT, sae=sae, indices=range(N_LATENTS), toward_F=own_F), x_BTD)


def test_clamped_latents_contribute_exactly_their_value(x_BTD: Tensor, mask_BT: Tensor, sae: SparseAutoencoder) -> None:
    at_two = edits.clamp_latents(x_BTD, mask_BT, sae=sae, indices=[5], values_F=2.0)
    at_zero = edits.clamp_latents(x_BTD, mask_BT, sae=sae, indices=[5], values_F=0.0)
    torch.testing.assert_close((at_two - at_zero)[mask_BT], (2 * sae.W_dec_FD[5]).expand(int(mask_BT.sum()), -1), atol=1e-5, rtol=1e-5)


def test_many_sets_at_once_equal_one_after_the_other(x_BTD: Tensor, mask_BT: Tensor, sae: SparseAutoencoder) -> None:
    sets_SK = torch.tensor([[1, 2, 3], [90, 4, 50], [7, 8, 9]])
    together = edits.ablate_sets(x_BTD, mask_BT, sae=sae, indices_SK=sets_SK, toward_F=0.5, strength=0.75, scale_S=torch.tensor([1.0, 2.0, 0.5]))
    for edited, indices, scale in zip(together, sets_SK.tolist(), [1.0, 2.0, 0.5], strict=True):
        alone = edits.ablate_latents(x_BTD, mask_BT, sae=sae, indices=indices, toward_F=0.5, strength=0.75 * scale)
        torch.testing.assert_close(edited, alone, atol=1e-5, rtol=1e-5)


def test_rescaled_sets_have_the_target_arms_perturbation_norm(x_BTD: Tensor, mask_BT: Tensor, sae: SparseAutoencoder) -> None:
    sets_SK = torch.arange(60).view(20, 3)
    target = edits.perturbation_norm(x_BTD, edits.ablate_latents(x_BTD, mask_BT, sae=sae, indices=[91, 92, 93], toward_F=0.2))
    scale_S = edits.rescaling(target, edits.set_norms(x_BTD[mask_BT], sae=sae, indices_SK=sets_SK, toward_F=0.2))
    edited = edits.ablate_sets(x_BTD, mask_BT, sae=sae, indices_SK=sets_SK, toward_F=0.2, scale_S=scale_S)
    assert [edits.perturbation_norm(x_BTD, one) for one in edited] == pytest.approx([target] * 20, rel=1e-4)


def test_a_set_that_changes_nothing_cannot_be_rescaled() -> None:
    with pytest.raises(InputError, match="1 of 2 random sets change nothing"):
        edits.rescaling(1.0, torch.tensor([0.3, 0.0]))


def test_a_projected_direction_has_no_component_left(x_BTD: Tensor, mask_BT: Tensor) -> None:
    direction_D = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(9))
    for toward in (0.0, 1.5):
        projected = edits.project_out(x_BTD, mask_BT, direction_D=direction_D, toward=toward)
        components = projected[mask_BT] @ (direction_D / direction_D.norm())
        torch.testing.assert_close(components, torch.full_like(components, toward), atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="length 0"):
        edits.project_out(x_BTD, mask_BT, direction_D=torch.zeros(D_MODEL))


def test_adding_the_difference_of_means_moves_one_group_onto_the_other() -> None:
    generator = torch.Generator().manual_seed(4)
    is_female_N = torch.arange(40) % 2 == 0
    x_ND = torch.randn(40, D_MODEL, generator=generator) + is_female_N[:, None] * torch.randn(D_MODEL, generator=generator)
    direction_D = edits.difference_of_means(x_ND, is_female_N)
    moved = edits.add_direction(x_ND[None], ~is_female_N[None], direction_D=direction_D)[0]
    torch.testing.assert_close(moved[~is_female_N].mean(0), x_ND[is_female_N].mean(0), atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="both groups need a row"):
        edits.difference_of_means(x_ND, torch.ones(40, dtype=torch.bool))


def test_a_random_direction_has_the_norm_asked_for_and_depends_on_the_seed_alone() -> None:
    first = edits.random_direction(D_MODEL, 2.5, seed=1)
    assert float(first.norm()) == pytest.approx(2.5)
    assert torch.equal(first, edits.random_direction(D_MODEL, 2.5, seed=1))
    assert not torch.equal(first, edits.random_direction(D_MODEL, 2.5, seed=2))


def test_latents_of_another_dictionary_or_named_twice_are_refused(x_BTD: Tensor, mask_BT: Tensor, sae: SparseAutoencoder) -> None:
    with pytest.raises(InputError, match="latent 96 is not in a dictionary of 96"):
        edits.ablate_latents(x_BTD, mask_BT, sae=sae, indices=[96])
    with pytest.raises(InputError, match="2 latents given, 1 different"):
        edits.ablate_latents(x_BTD, mask_BT, sae=sae, indices=[4, 4])
    with pytest.raises(InputError, match="target values have shape"):
        edits.ablate_latents(x_BTD, mask_BT, sae=sae, indices=[4], toward_F=torch.zeros(3))
    with pytest.raises(InputError, match="one boolean per row and position"):
        edits.ablate_latents(x_BTD, mask_BT[:2], sae=sae, indices=[4])


def test_after_erasure_the_groups_have_one_mean_and_erasing_again_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(8)
    is_female_N = torch.rand(300, generator=generator) < 0.4
    mixing = torch.randn(D_MODEL, D_MODEL, generator=generator)
    x_ND = torch.randn(300, D_MODEL, generator=generator) @ mixing + is_female_N[:, None] * torch.randn(D_MODEL, generator=generator)
    eraser, everywhere = fit_eraser(x_ND, is_female_N), torch.ones(1, 300, dtype=torch.bool)
    erased = eraser.edit(x_ND[None], everywhere)
    torch.testing.assert_close(edits.difference_of_means(erased[0], is_female_N), torch.zeros(D_MODEL), atol=1e-4, rtol=0)
    torch.testing.assert_close(eraser.edit(erased, everywhere), erased, atol=1e-4, rtol=1e-4)
    by_projection = edits.project_out(x_ND[None], everywhere, direction_D=edits.difference_of_means(x_ND, is_female_N), toward=0.0)
    assert edits.perturbation_norm(x_ND, erased[0]) < edits.perturbation_norm(x_ND, by_projection[0])
    with pytest.raises(InputError, match="both groups need a row"):
        fit_eraser(x_ND, torch.ones(300, dtype=torch.bool))


def test_a_gated_edit_acts_only_where_its_gate_opens(x_BTD: Tensor, mask_BT: Tensor) -> None:
    direction_D = torch.ones(D_MODEL)
    edited = edits.edit_where(x_BTD, mask_BT, edit=lambda x, mask: edits.add_direction(x, mask, direction_D=direction_D), gate=lambda x_ND: x_ND[:, 0] > 0)
    moved_BT = (edited != x_BTD).any(-1)
    assert torch.equal(moved_BT, mask_BT & (x_BTD[..., 0] > 0)) and moved_BT.any()
