"""AuxK: what dead latents learn from."""

import pytest
import torch

from saebias.sae.kernels.contract import Weights
from saebias.sae.losses import add_aux_gradients

D_MODEL, N_LATENTS, N_ROWS = 12, 40, 30


def random_weights(seed: int, encoder_bias: float) -> Weights:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Weights(normal(N_LATENTS, D_MODEL), normal(N_LATENTS) + encoder_bias, normal(N_LATENTS, D_MODEL), normal(D_MODEL))


def random_rows(seed: int) -> torch.Tensor:
    return torch.randn(N_ROWS, D_MODEL, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_auxk_moves_the_encoder_of_dead_latents_even_when_they_are_negative_everywhere():
    weights, x_BD = random_weights(3, -40.0), random_rows(4)
    dead_A = torch.arange(10)
    assert (x_BD @ weights.W_enc_FD.T + weights.b_enc_F < 0).all()
    grads = weights.zeros_like()
    add_aux_gradients(grads, x_BD, -x_BD, weights, dead_A, aux_k=4, coefficient=1.0)
    assert (grads.W_enc_FD[:10].norm(dim=1) > 0).all()
    assert (grads.b_enc_F[:10] != 0).all()
    assert (grads.W_enc_FD[10:] == 0).all()


def test_auxk_gradients_equal_automatic_ones_where_the_chosen_are_positive():
    weights, centred_BD, error_BD = random_weights(5, 20.0), random_rows(6), random_rows(7)
    dead_A = torch.tensor([1, 4, 9, 16, 25])
    grads = weights.zeros_like()
    loss = add_aux_gradients(grads, centred_BD, error_BD, weights, dead_A, aux_k=2, coefficient=0.5)
    leaves = Weights(*(tensor.clone().requires_grad_() for tensor in weights.tensors()))
    pre_BA = (centred_BD @ leaves.W_enc_FD.T + leaves.b_enc_F)[:, dead_A]
    codes_BA = torch.relu(pre_BA) * (pre_BA >= pre_BA.topk(2, dim=1).values[:, -1:])
    expected = 0.5 * (codes_BA @ leaves.W_dec_FD[dead_A] + error_BD).square().mean()
    wanted = torch.autograd.grad(expected, [leaves.W_enc_FD, leaves.b_enc_F, leaves.W_dec_FD])
    assert loss == pytest.approx(expected.item())
    for found, want in zip([grads.W_enc_FD, grads.b_enc_F, grads.W_dec_FD], wanted, strict=True):
        torch.testing.assert_close(found, want)
