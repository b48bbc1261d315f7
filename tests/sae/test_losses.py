"""The written-out gradients against automatic ones in float64."""

import pytest
import torch

from saebias.sae.losses import SparseCodes, Weights, add_aux_gradients, decode, reconstruction_gradients
from saebias.sae.selection import topk_positive

D_MODEL, N_LATENTS, K, N_ROWS = 12, 40, 5, 30


def random_weights(seed: int, encoder_bias: float) -> Weights:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Weights(normal(N_LATENTS, D_MODEL), 0.1 * normal(N_LATENTS) + encoder_bias, normal(N_LATENTS, D_MODEL), normal(D_MODEL))


def random_rows(seed: int) -> torch.Tensor:
    return torch.randn(N_ROWS, D_MODEL, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def codes_of(x_BD: torch.Tensor, weights: Weights) -> SparseCodes:
    return SparseCodes(*topk_positive((x_BD - weights.b_dec_D) @ weights.W_enc_FD.T + weights.b_enc_F, K))


def automatic_gradients(x_BD: torch.Tensor, weights: Weights) -> Weights:
    """Gradients of the plainest implementation: every product dense, the k-th value as threshold."""
    leaves = Weights(*(tensor.clone().requires_grad_() for tensor in weights.tensors()))
    codes_BF = torch.relu((x_BD - leaves.b_dec_D) @ leaves.W_enc_FD.T + leaves.b_enc_F)
    keep_BF = codes_BF >= codes_BF.topk(K, dim=1).values[:, -1:]
    loss = ((codes_BF * keep_BF) @ leaves.W_dec_FD + leaves.b_dec_D - x_BD).square().mean()
    return Weights(*torch.autograd.grad(loss, leaves.tensors()))


@pytest.mark.parametrize("encoder_bias", [0.0, -5.0], ids=["all k positive", "rows with fewer than k positive"])
def test_gradients_equal_automatic_ones(encoder_bias):
    weights, x_BD = random_weights(1, encoder_bias), random_rows(2)
    codes = codes_of(x_BD, weights)
    active_B = (codes.values_BK > 0).sum(1)
    assert active_B.min() < K if encoder_bias else active_B.min() == K
    error_BD = decode(codes, weights) - x_BD
    expected = automatic_gradients(x_BD, weights)
    for found, wanted in zip(reconstruction_gradients(x_BD, codes, error_BD, weights).tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_auxk_moves_the_encoder_of_dead_latents_even_when_they_are_negative_everywhere():
    weights, x_BD = random_weights(3, -30.0), random_rows(4)
    dead_A = torch.arange(10)
    codes = codes_of(x_BD, weights)
    assert not (codes.values_BK > 0).any()
    grads = Weights(*(torch.zeros_like(tensor) for tensor in weights.tensors()))
    add_aux_gradients(grads, x_BD, decode(codes, weights) - x_BD, weights, dead_A, aux_k=4, coefficient=1.0)
    assert (grads.W_enc_FD[:10].norm(dim=1) > 0).all()
    assert (grads.W_enc_FD[10:] == 0).all()
    assert (grads.b_enc_F[:10] != 0).any()


def test_auxk_gradients_equal_automatic_ones_where_the_chosen_are_positive():
    weights, x_BD = random_weights(5, 20.0), random_rows(6)
    dead_A = torch.tensor([1, 4, 9, 16, 25])
    error_BD = random_rows(7)
    grads = Weights(*(torch.zeros_like(tensor) for tensor in weights.tensors()))
    loss = add_aux_gradients(grads, x_BD, error_BD, weights, dead_A, aux_k=2, coefficient=0.5)
    leaves = Weights(*(tensor.clone().requires_grad_() for tensor in weights.tensors()))
    pre_BA = ((x_BD - weights.b_dec_D) @ leaves.W_enc_FD.T + leaves.b_enc_F)[:, dead_A]
    codes_BA = torch.relu(pre_BA) * (pre_BA >= pre_BA.topk(2, dim=1).values[:, -1:])
    expected = 0.5 * (codes_BA @ leaves.W_dec_FD[dead_A] + error_BD).square().mean()
    wanted = torch.autograd.grad(expected, [leaves.W_enc_FD, leaves.b_enc_F, leaves.W_dec_FD])
    assert loss == pytest.approx(expected.item())
    for found, want in zip([grads.W_enc_FD, grads.b_enc_F, grads.W_dec_FD], wanted, strict=True):
        torch.testing.assert_close(found, want)
