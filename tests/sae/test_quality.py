"""Laws of the quality figures and of the gate."""

import dataclasses

import numpy as np
import pytest
import torch

from saebias.errors import InputError
from saebias.sae.module import SaeSpec, SparseAutoencoder
from saebias.sae.quality import QualityAccumulator, QualityLimits, density_histogram, quality_gate, sae_quality


@pytest.fixture
def x_ND() -> torch.Tensor:
    return 100 + torch.randn(5000, 8, generator=torch.Generator().manual_seed(1))


def sae_with(decoder_FD: torch.Tensor, encoder_DF: torch.Tensor, b_dec_D: torch.Tensor, k: int) -> SparseAutoencoder:
    sae = SparseAutoencoder(SaeSpec(decoder_FD.shape[1], decoder_FD.shape[0], k))
    with torch.no_grad():
        sae.W_dec_FD.copy_(decoder_FD)
        sae.W_enc_DF.copy_(encoder_DF)
        sae.b_dec_D.copy_(b_dec_D)
    return sae


def test_fvu_of_the_mean_predictor_is_one(x_ND):
    sae = sae_with(torch.zeros(20, 8), torch.zeros(8, 20), x_ND.mean(0), k=4)
    quality = sae_quality(sae, x_ND)
    assert quality.fvu == pytest.approx(1, abs=1e-5)
    assert quality.dead_share == 1
    assert quality.l0 == 0


def test_fvu_of_a_perfect_reconstruction_is_zero(x_ND):
    both_signs_FD = torch.cat([torch.eye(8), -torch.eye(8), torch.zeros(4, 8)])
    quality = sae_quality(sae_with(both_signs_FD, both_signs_FD.T, x_ND.mean(0), k=8), x_ND)
    assert quality.fvu == pytest.approx(0, abs=1e-9)
    assert quality.l0 == pytest.approx(8)
    assert quality.dead_share == pytest.approx(4 / 20)


def test_figures_recomputed_in_numpy_agree(x_ND):
    sae = SparseAutoencoder(SaeSpec(8, 30, 3, seed=4))
    with torch.no_grad():
        sae.b_dec_D.fill_(99.5)
    quality = sae_quality(sae, x_ND)
    x, W_enc, W_dec, b = (t.detach().numpy().astype(np.float64) for t in (x_ND, sae.W_enc_DF, sae.W_dec_FD, sae.b_dec_D))
    pre = np.maximum((x - b) @ W_enc, 0)
    codes = np.where(pre >= np.sort(pre, axis=1)[:, -3:-2], pre, 0)
    error = x - (codes @ W_dec + b)
    assert quality.fvu == pytest.approx((error**2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-5)
    assert quality.l0 == pytest.approx((codes > 0).sum(1).mean())
    assert quality.density_p50 == pytest.approx(np.quantile((codes > 0).mean(0), 0.5))
    cosine = W_dec @ W_dec.T - 2 * np.eye(30)
    assert quality.nearest_decoder_cosine == pytest.approx(cosine.max(1).mean(), abs=1e-6)


def test_pieces_add_up_to_the_whole(x_ND):
    sae = SparseAutoencoder(SaeSpec(8, 30, 3, seed=4))
    pieces = QualityAccumulator(sae)
    for piece in x_ND.split(777):
        pieces.add(piece)
    whole = dataclasses.asdict(sae_quality(sae, x_ND))
    assert dataclasses.asdict(pieces.result()) == pytest.approx(whole, rel=1e-5)


def test_a_given_reference_mean_is_the_one_compared_with(x_ND):
    sae = sae_with(torch.zeros(20, 8), torch.zeros(8, 20), torch.full((8,), 100.0), k=4)
    reference_D = torch.full((8,), 90.0)
    expected = (x_ND - 100).double().square().sum() / (x_ND - 90).double().square().sum()
    assert sae_quality(sae, x_ND, reference_mean_D=reference_D).fvu == pytest.approx(expected.item())


def test_what_cannot_be_computed_is_none_and_fails_the_gate():
    constant_ND = torch.ones(600, 8)
    quality = sae_quality(SparseAutoencoder(SaeSpec(8, 30, 3)), constant_ND)
    assert quality.fvu is None
    assert any("FVU cannot be computed" in reason for reason in quality_gate(quality, QualityLimits()))


def test_no_rows_and_bad_rows_are_errors(x_ND):
    sae = SparseAutoencoder(SaeSpec(8, 30, 3))
    with pytest.raises(InputError, match="no rows"):
        sae_quality(sae, x_ND[:0])
    x_ND[3, 1] = float("nan")
    with pytest.raises(InputError, match="NaN or infinite"):
        sae_quality(sae, x_ND)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fvu": 0.9}, "FVU 0.900 is above 0.5"),
        ({"dead_share": 0.98}, "98% of 1000 latents are dead"),
        ({"l0": 500.0}, "not sparse: L0 500.0 is 50% of the latents"),
        ({"n_rows": 10}, "measured on 10 rows"),
    ],
)
def test_the_gate_names_each_defect_and_only_that(x_ND, change, reason):
    good = dataclasses.replace(sae_quality(SparseAutoencoder(SaeSpec(8, 30, 3)), x_ND), n_latents=1000, fvu=0.1, dead_share=0.0, l0=32.0)
    assert quality_gate(good, QualityLimits()) == []
    reasons = quality_gate(dataclasses.replace(good, **change), QualityLimits())
    assert len(reasons) == 1
    assert reasons[0].startswith(reason)


def test_the_density_histogram_counts_every_live_latent_once_in_the_bin_of_its_density():
    density_F = torch.tensor([0.0, 1e-7, 2e-5, 0.0123, 0.5, 1.0, 0.0])
    bins = density_histogram(density_F)
    assert sum(each.n_latents for each in bins) == 5
    assert (bins[0].low, bins[-1].high) == (pytest.approx(1e-5), 1.0)
    assert next(each for each in bins if each.low <= 0.0123 < each.high).n_latents == 1
    assert bins[0].n_latents == 1 and bins[-1].n_latents == 1 + (bins[-1].low <= 0.5)
