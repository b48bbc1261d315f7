"""Laws of encoding and decoding."""

import pytest
import torch

from saebias.errors import InputError
from saebias.sae.module import ARCHITECTURES, SaeSpec, SparseAutoencoder
from saebias.sae.normalisation import InputScale, fold_input_scale


@pytest.fixture
def sae() -> SparseAutoencoder:
    made = SparseAutoencoder(SaeSpec(d_model=16, n_latents=64, k=6, seed=1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        made.b_dec_D.copy_(torch.randn(16, generator=generator))
        made.b_enc_F.copy_(0.3 * torch.randn(64, generator=generator) - 2)
    return made


@pytest.fixture
def x_ND() -> torch.Tensor:
    return torch.randn(200, 16, generator=torch.Generator().manual_seed(3))


def test_the_reconstruction_is_decode_of_encode(sae, x_ND):
    assert torch.equal(sae(x_ND), sae.decode(sae.encode(x_ND)))


def test_sparse_and_dense_codes_are_the_same_codes(sae, x_ND):
    values_NK, indices_NK = sae.encode_sparse(x_ND)
    assert torch.equal(torch.zeros(200, 64).scatter(1, indices_NK, values_NK), sae.encode(x_ND))
    torch.testing.assert_close(sae.decode_sparse(values_NK, indices_NK), sae(x_ND))


def test_at_most_k_codes_are_active_and_fewer_where_fewer_are_positive(sae, x_ND):
    codes_NF = sae.encode(x_ND)
    positive_N = (sae.preactivations(x_ND) > 0).sum(1)
    assert positive_N.min() < 6 < positive_N.max()
    assert torch.equal((codes_NF > 0).sum(1), positive_N.clamp(max=6))
    assert (codes_NF >= 0).all()


def test_the_decoder_bias_is_taken_off_before_encoding(sae, x_ND):
    expected_NF = (x_ND - sae.b_dec_D) @ sae.W_enc_DF + sae.b_enc_F
    torch.testing.assert_close(sae.preactivations(x_ND), expected_NF)


def test_a_row_does_not_depend_on_the_rows_beside_it(sae):
    x_ND = torch.randn(9000, 16, generator=torch.Generator().manual_seed(4))
    whole, alone = sae.encode_sparse(x_ND), sae.encode_sparse(x_ND[5000:5001])
    torch.testing.assert_close(sae.decode_sparse(*whole)[5000:5001], sae.decode_sparse(*alone))


def test_gradients_flow_to_the_input_through_active_latents_only(sae, x_ND):
    x_ND.requires_grad_()
    (gradient_ND,) = torch.autograd.grad(sae.encode(x_ND).sum(), x_ND)
    active_NF = (sae.encode(x_ND) > 0).float()
    torch.testing.assert_close(gradient_ND, active_NF @ sae.W_enc_DF.T)


def test_relu_keeps_every_positive_pre_activation(x_ND):
    sae = SparseAutoencoder(SaeSpec(d_model=16, n_latents=64, k=6, architecture="relu"))
    assert torch.equal(sae.encode(x_ND), torch.relu(sae.preactivations(x_ND)))
    with pytest.raises(InputError, match="no fixed number"):
        sae.encode_sparse(x_ND)


def test_wrong_widths_and_architectures_are_named(sae):
    with pytest.raises(InputError, match=r"\(3, 15\) do not fit an SAE on 16"):
        sae(torch.zeros(3, 15))
    with pytest.raises(InputError, match="unknown SAE architecture 'top-k'"):
        SaeSpec(d_model=16, n_latents=64, k=6, architecture="top-k")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_decodes_what_it_encodes_and_folds_its_input_scale(architecture, x_ND):
    sae = SparseAutoencoder(SaeSpec(d_model=16, n_latents=64, k=6, architecture=architecture))
    with torch.no_grad():
        for seed, parameter in enumerate(sae.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    assert torch.equal(sae(x_ND), sae.decode(sae.encode(x_ND)))
    scale = InputScale(mean_D=torch.randn(16, generator=torch.Generator().manual_seed(9)), scale=7.0, outlier_ratio=10.0)
    x_hat_ND, codes_NF = sae(scale.normalise(x_ND)), sae.encode(scale.normalise(x_ND))
    fold_input_scale(sae, scale)
    torch.testing.assert_close(sae.encode(x_ND), 7 * codes_NF, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sae(x_ND), 7 * x_hat_ND + scale.mean_D, rtol=1e-4, atol=1e-4)


def test_a_gated_latent_is_silent_when_its_gate_is_closed_however_large_its_magnitude(x_ND):
    sae = SparseAutoencoder(SaeSpec(d_model=16, n_latents=64, k=0, architecture="gated"))
    with torch.no_grad():
        sae.b_mag_F.fill_(100.0)
    assert torch.equal(sae.encode(x_ND) > 0, sae.preactivations(x_ND) > 0)
