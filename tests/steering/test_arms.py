"""Laws of the arms: a planted latent carries the planted gap, its matched random sets do not, and controls are as strong as what they control."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.steering import arms
from saebias.steering.edits import difference_of_means, perturbation_norm
from saebias.steering.erasure import fit_eraser
from saebias.vlm.hooks import EditContext

D_MODEL, N_LATENTS = 64, 64
PLANTED = [3, 10]


@pytest.fixture
def planted() -> tuple[SparseAutoencoder, Tensor, Tensor, Tensor]:
    """A dictionary of orthogonal latents, activations made of them, women's rows, and a linear model that reads gender from two latents alone."""
    sae = SparseAutoencoder(SaeSpec(d_model=D_MODEL, n_latents=N_LATENTS, k=16)).requires_grad_(False)
    basis_FD = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL, generator=torch.Generator().manual_seed(1)))[0]
    sae.W_dec_FD.copy_(basis_FD)
    sae.W_enc_DF.copy_(basis_FD.T)
    generator = torch.Generator().manual_seed(2)
    codes_NF = (torch.rand(200, N_LATENTS, generator=generator) < 0.15) * torch.rand(200, N_LATENTS, generator=generator)
    is_female_N = torch.arange(200) % 2 == 0
    codes_NF[:, PLANTED] = torch.where(is_female_N[:, None], 1.0, 0.2)
    return sae, codes_NF @ basis_FD, is_female_N, basis_FD[PLANTED].sum(0)


def gap(x_ND: Tensor, is_female_N: Tensor, readout_D: Tensor) -> float:
    gap_N = x_ND @ readout_D
    return float(gap_N[is_female_N].mean() - gap_N[~is_female_N].mean())


def test_ablating_the_planted_latents_removes_the_planted_gap_and_random_ones_do_not(planted: tuple[SparseAutoencoder, Tensor, Tensor, Tensor]) -> None:
    sae, x_ND, is_female_N, readout_D = planted
    everywhere = torch.ones(1, len(x_ND), dtype=torch.bool)
    mean_F = sae.encode(x_ND).mean(0)
    (arm,) = arms.ablation_arms(sae, {"visible": PLANTED}, [1.0], mean_F)
    assert gap(x_ND, is_female_N, readout_D) == pytest.approx(1.6, abs=1e-3)
    assert gap(arm.edit(x_ND[None], everywhere)[0], is_female_N, readout_D) == pytest.approx(0, abs=1e-4)
    others = [latent for latent in range(N_LATENTS) if latent not in PLANTED]
    sets = arms.random_sets(sae, "visible", PLANTED, torch.tensor(others[:60]).view(30, 2), mean_F, 1.0, x_ND)
    for edited in sets.edit(x_ND[None], everywhere, slice(0, 30)):
        assert gap(edited[0], is_female_N, readout_D) == pytest.approx(1.6, abs=1e-3)
        assert perturbation_norm(x_ND, edited[0]) == pytest.approx(perturbation_norm(x_ND, arm.edit(x_ND[None], everywhere)[0]), rel=1e-3)


def test_half_the_strength_removes_half_of_the_planted_gap(planted: tuple[SparseAutoencoder, Tensor, Tensor, Tensor]) -> None:
    sae, x_ND, is_female_N, readout_D = planted
    everywhere = torch.ones(1, len(x_ND), dtype=torch.bool)
    for arm in arms.ablation_arms(sae, {"visible": PLANTED}, [0.25, 0.5], sae.encode(x_ND).mean(0)):
        assert gap(arm.edit(x_ND[None], everywhere)[0], is_female_N, readout_D) == pytest.approx(1.6 * (1 - arm.strength), abs=1e-3)


def test_random_sets_that_cannot_be_a_control_are_refused(planted: tuple[SparseAutoencoder, Tensor, Tensor, Tensor]) -> None:
    sae, x_ND, _, _ = planted
    with pytest.raises(InputError, match="holds one of its own latents"):
        arms.random_sets(sae, "visible", PLANTED, torch.tensor([[3, 20]]), 0.0, 1.0, x_ND)
    with pytest.raises(InputError, match="as large as what it controls"):
        arms.random_sets(sae, "visible", PLANTED, torch.tensor([[20]]), 0.0, 1.0, x_ND)


def test_every_direction_comes_with_a_random_one_of_equal_norm() -> None:
    direction_D = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(5))
    x_BTD, mask_BT = torch.zeros(1, 1, D_MODEL), torch.ones(1, 1, dtype=torch.bool)
    made = arms.direction_arms({"visible": direction_D}, [0.5, 2.0], seed=1)
    assert [(arm.arm, arm.strength) for arm in made] == [("A8", 0.5), ("A8", 2.0), ("A7", 0.5), ("A7", 2.0)]
    norms = [float(arm.edit(x_BTD, mask_BT).norm()) for arm in made]
    assert norms[:2] == pytest.approx(norms[2:])


def test_an_edit_as_a_hook_acts_at_the_positions_that_the_pass_marks(planted: tuple[SparseAutoencoder, Tensor, Tensor, Tensor]) -> None:
    sae, x_ND, _, _ = planted
    x_BTD, mask_BT = x_ND.view(20, 10, D_MODEL), torch.arange(10).expand(20, 10) >= 6
    context = EditContext(HookPoint(0), mask_BT, torch.zeros_like(mask_BT), torch.zeros_like(mask_BT), torch.arange(20))
    for arm in arms.control_arms(sae) + arms.clamp_arms(sae, {"visible": PLANTED}, {"zero": 0.0}):
        edited = arms.as_hook(arm.edit)(x_BTD, context)
        assert torch.equal(edited[~mask_BT], x_BTD[~mask_BT])
        assert torch.equal(edited, x_BTD) == (arm.arm == "A0")


def test_a_negative_ablation_strength_is_refused(planted: tuple[SparseAutoencoder, Tensor, Tensor, Tensor]) -> None:
    with pytest.raises(InputError, match="strength -1"):
        arms.ablation_arms(planted[0], {"visible": PLANTED}, [-1.0], 0.0)


def test_a_frozen_decoder_is_an_arm_of_its_own(planted: tuple[SparseAutoencoder, Tensor, Tensor, Tensor]) -> None:
    frozen = SparseAutoencoder(SaeSpec(d_model=D_MODEL, n_latents=N_LATENTS, k=16, frozen_decoder=True)).requires_grad_(False)
    assert [arm.arm for arm in arms.ablation_arms(frozen, {"visible": PLANTED}, [1.0], 0.0, arm="A13")] == ["A13"]
    with pytest.raises(InputError, match="decoder was frozen"):
        arms.ablation_arms(frozen, {"visible": PLANTED}, [1.0], 0.0)
    with pytest.raises(InputError, match="decoder was trained"):
        arms.ablation_arms(planted[0], {"visible": PLANTED}, [1.0], 0.0, arm="A13")


def test_a_gate_that_never_opens_makes_an_arm_equal_to_the_baseline(planted: tuple[SparseAutoencoder, Tensor, Tensor, Tensor]) -> None:
    sae, x_ND, _, _ = planted
    everywhere = torch.ones(1, len(x_ND), dtype=torch.bool)
    plain = arms.ablation_arms(sae, {"visible": PLANTED}, [1.0], 0.0)
    shut, wide = (arms.gated_arms(plain, lambda x_ND, limit=limit: x_ND[:, 0] > limit)[0] for limit in (1e9, -1e9))
    assert torch.equal(shut.edit(x_ND[None], everywhere), x_ND[None]) and not torch.equal(wide.edit(x_ND[None], everywhere), x_ND[None])
    assert shut.arm == "A15" and "ablate latents" in shut.name


def test_erasure_is_an_arm_whose_full_strength_leaves_no_difference_of_means(planted: tuple[SparseAutoencoder, Tensor, Tensor, Tensor]) -> None:
    _, x_ND, is_female_N, _ = planted
    half, full = arms.erasure_arms({"visible": fit_eraser(x_ND, is_female_N)}, [0.5, 1.0])
    before, some, none = (
        float(difference_of_means(x[0], is_female_N).norm())
        for x in (x_ND[None], *(arm.edit(x_ND[None], torch.ones(1, len(x_ND), dtype=torch.bool)) for arm in (half, full)))
    )
    assert half.arm == "A10" and none < 1e-4 < some < before
