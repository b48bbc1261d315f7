"""Laws of training: planted truth is found, the saved SAE is the trained one, bad rows are named."""

import dataclasses

import numpy as np
import pytest
import torch

from saebias.errors import InputError
from saebias.report import SilentReporter
from saebias.sae.batches import n_batches, shuffled_batches
from saebias.sae.initialisation import part_N
from saebias.sae.module import ARCHITECTURES, SaeSpec, SparseAutoencoder
from saebias.sae.quality import QualityLimits, quality_gate, sae_quality
from saebias.sae.stability import live_latents, match_dictionaries
from saebias.sae.trainer import SaeTrainer, TrainConfig
from saebias.sae.training import TrainedSae, train_sae

from .conftest import DATA_SEED, Planted

SPEC = SaeSpec(d_model=32, n_latents=128, k=6, seed=3)
CONFIG = TrainConfig(batch_size=256)


def trained_on(planted: Planted, spec: SaeSpec = SPEC, config: TrainConfig = CONFIG, epochs: int = 6) -> TrainedSae:
    rows = planted.x_ND[:-2000]
    batches = shuffled_batches(lambda a, b: rows[a:b], len(rows), batch_size=config.batch_size, epochs=epochs, seed=11)
    steps = n_batches(len(rows), batch_size=config.batch_size, epochs=epochs)
    return train_sae(batches, spec, config, steps=steps, reporter=SilentReporter(), validation_ND=torch.from_numpy(planted.x_ND[-2000:]))


@pytest.fixture(scope="module")
def trained(planted: Planted) -> TrainedSae:
    return trained_on(planted)


def test_planted_directions_are_found_again(planted, trained):
    cosine_FG = trained.sae.W_dec_FD.detach().numpy() @ planted.directions_GD.T
    assert np.mean(cosine_FG.max(axis=0) > 0.95) > 0.95
    assert trained.summary.validation_fvu < 0.1


def test_the_seed_of_the_weights_is_not_the_seed_of_the_data_and_random_starts_know_no_planted_direction(planted):
    assert SPEC.seed != DATA_SEED
    config = dataclasses.replace(CONFIG, init_from_rows=0.0)
    start = SaeTrainer(SPEC, config, torch.from_numpy(planted.x_ND[:4096]), steps=10)
    cosine_FG = start.weights.W_dec_FD.numpy() @ planted.directions_GD.T
    rng = np.random.default_rng(99)
    chance_FD = rng.standard_normal((128, 32))
    chance_FG = (chance_FD / np.linalg.norm(chance_FD, axis=1, keepdims=True)) @ planted.directions_GD.T
    assert abs(cosine_FG.max(axis=0).mean() - chance_FG.max(axis=0).mean()) < 0.05


@pytest.mark.parametrize("different", [True, False])
def test_latents_of_noise_resemble_each_other_only_when_two_seeds_start_from_the_same_rows(different: bool):
    noise_ND = torch.randn(2200, 64, generator=torch.Generator().manual_seed(41))
    rows_ND, unseen_ND = noise_ND[:600], noise_ND[600:]
    matched = []
    for number, seed in enumerate((7, 8)):
        config = TrainConfig(batch_size=200, init_part=(number, 2) if different else (0, 1))
        sae = train_sae([*rows_ND.split(200)] * 20, SaeSpec(64, 512, 8, seed=seed), config, steps=60, reporter=SilentReporter()).sae.requires_grad_(False)
        matched.append(live_latents(str(seed), sae.W_dec_FD.numpy(), sae.encode(unseen_ND).numpy()).dictionary)
    alike_share = (match_dictionaries(*matched, seed=5).cosine_M > 0.7).mean()
    assert alike_share < 0.05 if different else alike_share > 0.2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_number_of_threads_changes_no_weight(architecture: str):
    rows_ND = torch.randn(1024, 96, generator=torch.Generator().manual_seed(3)) + 0.3
    before, ends = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            trainer = SaeTrainer(SaeSpec(96, 768, 16, architecture, seed=5), CONFIG, rows_ND, steps=4)
            for batch_BD in rows_ND.split(256):
                trainer.step(batch_BD)
            ends.append(trainer.finished().state_dict())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(ends[0][name], end[name]) for end in ends[1:] for name in end)


def test_equal_rows_are_in_one_part_and_the_parts_are_all_rows():
    rows_ND = torch.randn(500, 8, generator=torch.Generator().manual_seed(3)).repeat(2, 1)
    parts_N = part_N(rows_ND, 3)
    assert torch.equal(parts_N[:500], parts_N[500:])
    assert torch.bincount(parts_N).min() > 250 and set(parts_N.tolist()) == {0, 1, 2}


def test_outlier_rows_are_left_out_and_counted(planted):
    rows_ND = torch.from_numpy(planted.x_ND[:16_384].copy())
    rows_ND[5::1000] *= 300
    spoiled = train_sae(rows_ND.split(256), SPEC, CONFIG, steps=64, reporter=SilentReporter())
    clean = train_sae(torch.from_numpy(planted.x_ND[:16_384]).split(256), SPEC, CONFIG, steps=64, reporter=SilentReporter())
    assert spoiled.summary.outlier_rows == 17
    assert spoiled.summary.tokens == 16_384 - 17
    assert spoiled.summary.input_scale == pytest.approx(clean.summary.input_scale, rel=0.01)
    assert spoiled.summary.train_fvu < 1.3 * clean.summary.train_fvu


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_finished_sae_on_raw_rows_is_the_trained_one_on_normalised_rows(planted, architecture):
    raw_ND = torch.from_numpy(planted.x_ND[:512])
    trainer = SaeTrainer(dataclasses.replace(SPEC, architecture=architecture), CONFIG, raw_ND, steps=20)
    for _ in range(20):
        trainer.step(raw_ND)
    x_ND, weights = trainer.scale.normalise(raw_ND), trainer.weights
    with torch.no_grad():
        codes = trainer.architecture.encode(trainer.situation(), x_ND - weights.b_dec_D)
        sae = trainer.finished()
    dense_NF = torch.zeros(512, SPEC.n_latents).scatter_add_(1, codes.indices_BK, codes.values_BK)
    x_hat_ND = dense_NF @ weights.W_dec_FD + weights.b_dec_D
    torch.testing.assert_close(sae.encode(raw_ND), dense_NF * trainer.scale.scale, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sae(raw_ND), x_hat_ND * trainer.scale.scale + trainer.scale.mean_D, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka"])
def test_the_threshold_of_a_dictionary_cut_by_batch_reproduces_the_training_l0_on_new_rows(planted, architecture):
    trained = trained_on(planted, dataclasses.replace(SPEC, architecture=architecture), epochs=3)
    assert trained.history[-1].l0 == pytest.approx(6, abs=0.01)
    assert trained.summary.validation_l0 == pytest.approx(6, rel=0.02)


def test_a_dictionary_that_was_not_told_how_sparse_to_be_is_not_trained(planted):
    with pytest.raises(InputError, match="k=0 says nothing about how sparse the gated SAE"):
        SaeTrainer(dataclasses.replace(SPEC, architecture="gated", k=0), CONFIG, torch.from_numpy(planted.x_ND[:512]), steps=1)


def test_decoder_rows_have_unit_norm(trained):
    torch.testing.assert_close(trained.sae.W_dec_FD.norm(dim=1), torch.ones(128))


def test_the_same_seeds_give_the_same_weights(planted):
    first, second = (trained_on(planted, epochs=1).sae for _ in range(2))
    assert torch.equal(first.W_enc_DF, second.W_enc_DF)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_frozen_decoder_never_moves_and_the_encoder_learns(planted, architecture):
    spec = dataclasses.replace(SPEC, frozen_decoder=True, architecture=architecture)
    rows_ND = torch.from_numpy(planted.x_ND[:2048])
    trainer = SaeTrainer(spec, CONFIG, rows_ND, steps=30)
    decoder_before, encoder_before = trainer.weights.W_dec_FD.clone(), trainer.weights.W_enc_FD.clone()
    losses = [trainer.step(rows_ND[:512]).loss for _ in range(30)]
    assert torch.equal(decoder_before, SparseAutoencoder(spec).W_dec_FD)
    assert torch.equal(trainer.weights.W_dec_FD, decoder_before)
    assert torch.equal(trainer.finished().W_dec_FD, decoder_before)
    assert not torch.equal(trainer.weights.W_enc_FD, encoder_before)
    assert losses[-1] < losses[0]


def test_the_frozen_control_rebuilds_less_than_the_learned_dictionary(planted, trained):
    control = trained_on(planted, dataclasses.replace(SPEC, frozen_decoder=True), epochs=2)
    assert control.summary.validation_fvu > 2 * trained.summary.validation_fvu


def test_an_untrained_sae_fails_the_quality_gate_and_the_trained_one_passes(planted, trained):
    validation_ND = torch.from_numpy(planted.x_ND[-2000:])
    untrained = SaeTrainer(SPEC, CONFIG, torch.from_numpy(planted.x_ND[:4096]), steps=10).finished()
    assert quality_gate(sae_quality(untrained, validation_ND), QualityLimits(max_fvu=0.4))
    assert quality_gate(sae_quality(trained.sae, validation_ND), QualityLimits(max_fvu=0.4)) == []


def test_the_history_ends_where_the_training_ends(trained):
    steps = [row.step for row in trained.history]
    assert steps == sorted(set(steps))
    assert steps[-1] == trained.summary.steps
    assert trained.history[-1].tokens == trained.summary.tokens == 22_000 * 6
    assert trained.history[-1].fvu < trained.history[0].fvu


def test_auxk_wakes_dead_latents_and_they_lower_the_error(planted):
    rows_ND = torch.from_numpy(planted.x_ND)
    n_dead, error = {}, {}
    for coefficient in (0.0, 1 / 32):
        config = dataclasses.replace(CONFIG, dead_after_tokens=512, aux_coefficient=coefficient)
        trainer = SaeTrainer(SPEC, config, rows_ND[:4096], steps=400)
        trainer.weights.b_enc_F[:96] -= 2.0
        last = [trainer.step(rows_ND[(step * 50) % 20_000 :][:256]) for step in range(400)][-1]
        n_dead[coefficient] = int(trainer.dead_F()[:96].sum())
        error[coefficient] = last.squared_error / last.squared_norm
    assert n_dead[0.0] > 80
    assert n_dead[1 / 32] < 60
    assert error[1 / 32] < 0.8 * error[0.0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x.index_fill_(0, torch.tensor([7]), float("nan")), "row 7 of the first rows is NaN or infinite"),
        (lambda x: x.index_fill_(0, torch.tensor([7]), float("inf")), "row 7 of the first rows is NaN or infinite"),
        (lambda x: x.index_fill_(0, torch.tensor([9]), 0.0), "row 9 of the first rows is all zero"),
        (lambda x: x.index_fill_(1, torch.tensor([2]), 4.0), "dimension 2 is constant"),
        (lambda x: x[:, :20], "does not fit an SAE on 32 dimensions"),
        (lambda x: x[:0].flatten(), "does not fit"),
    ],
)
def test_rows_that_cannot_train_a_dictionary_are_named_in_one_line(planted, spoil, message):
    rows_ND = spoil(torch.from_numpy(planted.x_ND[:512].copy()))
    with pytest.raises(InputError, match=message) as caught:
        train_sae([rows_ND], SPEC, CONFIG, steps=1, reporter=SilentReporter())
    assert "\n" not in str(caught.value)


def test_a_bad_row_in_a_later_batch_is_named_with_its_batch(planted):
    good_ND = torch.from_numpy(planted.x_ND[:16_384])
    bad_ND = good_ND[:256].clone()
    bad_ND[17, 3] = float("nan")
    with pytest.raises(InputError, match="row 17 of batch 2 is NaN"):
        train_sae([good_ND, bad_ND], SPEC, CONFIG, steps=2, reporter=SilentReporter())


def test_a_batch_of_outliers_and_a_training_that_diverges_are_errors(planted):
    rows_ND = torch.from_numpy(planted.x_ND[:512])
    trainer = SaeTrainer(SPEC, CONFIG, rows_ND, steps=10)
    with pytest.raises(InputError, match="batch 1 has no row within 10 typical distances of the mean"):
        trainer.step(rows_ND * 1000)
    wild = SaeTrainer(SPEC, dataclasses.replace(CONFIG, learning_rate=1e30), rows_ND, steps=10)
    with pytest.raises(InputError, match="diverged: the loss of step 2 is"):
        for _ in range(10):
            wild.step(rows_ND)
    with pytest.raises(InputError, match=r"first rows of shape \(512, 30\) do not fit an SAE on 32"):
        SaeTrainer(SPEC, CONFIG, rows_ND[:, :30], steps=10)


def test_too_few_batches_and_none_at_all_are_errors(planted):
    rows_ND = torch.from_numpy(planted.x_ND[:256])
    with pytest.raises(InputError, match="ended after 1 of 5 steps"):
        train_sae([rows_ND], SPEC, CONFIG, steps=5, reporter=SilentReporter())
    with pytest.raises(InputError, match="not one batch"):
        train_sae([], SPEC, CONFIG, steps=5, reporter=SilentReporter())


@pytest.mark.parametrize(("k", "n_latents"), [(16, 16), (17, 16), (0, 16), (1, 1), (1, 0)])
def test_a_spec_that_is_not_sparse_is_refused(k, n_latents):
    with pytest.raises(InputError):
        SaeSpec(d_model=8, n_latents=n_latents, k=k)


def test_a_spec_of_no_width_and_prefixes_that_are_none_are_refused():
    with pytest.raises(InputError, match="an SAE of 0 dimensions and 16 latents is empty"):
        SaeSpec(d_model=0, n_latents=16, k=2)
    with pytest.raises(InputError, match=r"prefixes \[4, 16\] were given for a topk SAE"):
        SaeSpec(d_model=8, n_latents=16, k=2, prefixes=(4, 16))
    for prefixes in [(4, 8), (8, 4, 16), (0, 16), (4, 4, 16), (4, 17)]:
        with pytest.raises(InputError, match="must rise from at least 1 to all 16 latents"):
            SaeSpec(d_model=8, n_latents=16, k=2, architecture="matryoshka", prefixes=prefixes)
    assert SaeSpec(d_model=8, n_latents=64, k=2, architecture="matryoshka").prefixes == (2, 6, 14, 30, 64)
