"""Dead latents start anew at what is explained worst, and no other latent notices."""

import pytest
import torch

from saebias.sae.kernels.contract import Weights
from saebias.sae.module import SaeSpec
from saebias.sae.peers import ALONE
from saebias.sae.revival import REVIVED_SHARE, revive
from saebias.sae.trainer import SaeTrainer, TrainConfig

from .conftest import Planted

D, F, B = 12, 200, 40


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_weights(seed: int) -> Weights:
    return Weights(normal(seed, F, D), normal(seed + 1, F), torch.nn.functional.normalize(normal(seed + 2, F, D), dim=1), normal(seed + 3, D))


def copied(weights: Weights) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in weights.tensors()]


def test_only_dead_latents_start_anew_a_few_at_a_time_along_errors_with_the_norm_of_the_living():
    weights, first, second = some_weights(1), some_weights(10), some_weights(20)
    before = [copied(one) for one in (weights, first, second)]
    dead_F = torch.arange(F) % 3 == 0
    error_BD = normal(5, B, D)
    error_BD[:30] = 0
    revived_F = revive(weights, (first, second), dead_F, error_BD, ALONE, seed=7)
    assert revived_F.sum() == round(REVIVED_SHARE * F)
    assert not (revived_F & ~dead_F).any()
    for one, old in zip((weights, first, second), before, strict=True):
        for found, was in zip(one.tensors()[:3], old[:3], strict=True):
            assert torch.equal(found[~revived_F], was[~revived_F])
        assert torch.equal(one.b_dec_D, old[3])
    cosine_PB = weights.W_dec_FD[revived_F] @ torch.nn.functional.normalize(-error_BD[30:], dim=1).T
    assert torch.allclose(cosine_PB.amax(1), torch.ones(len(cosine_PB)), atol=1e-5), "rows without an error are never drawn"
    norms_P = weights.W_enc_FD[revived_F].norm(dim=1)
    assert torch.allclose(norms_P, before[0][0][~dead_F].norm(dim=1).mean().expand_as(norms_P))
    assert not any(moment.W_enc_FD[revived_F].any() or moment.W_dec_FD[revived_F].any() for moment in (first, second))


@pytest.mark.parametrize("case", ["none dead", "all dead", "nothing left to explain"])
def test_where_there_is_nothing_to_revive_nothing_changes(case):
    weights, moments = some_weights(1), (some_weights(10), some_weights(20))
    before = copied(weights)
    dead_F = torch.full((F,), case == "all dead") if case != "nothing left to explain" else torch.arange(F) < 50
    error_BD = torch.zeros(B, D) if case == "nothing left to explain" else normal(5, B, D)
    assert not revive(weights, moments, dead_F, error_BD, ALONE, seed=7).any()
    assert all(torch.equal(found, was) for found, was in zip(weights.tensors(), before, strict=True))


def test_a_frozen_decoder_is_not_touched_and_zero_turns_it_off(planted: Planted):
    rows = list(torch.from_numpy(planted.x_ND[: 30 * 128]).split(128))

    def decoder(config: TrainConfig, **spec: object) -> torch.Tensor:
        trainer = SaeTrainer(SaeSpec(32, 256, 4, "matryoshka", seed=2, **spec), config, torch.cat(rows), len(rows))
        start = trainer.weights.W_dec_FD.clone()
        for batch_BD in rows:
            trainer.step(batch_BD)
        return trainer.weights.W_dec_FD - start

    assert not decoder(TrainConfig(dead_after_tokens=256), frozen_decoder=True).any()
    default, never, always = (decoder(TrainConfig(dead_after_tokens=256, revive_every=every)) for every in (None, 0, 8))
    assert torch.equal(default, always)
    assert not torch.equal(default, never)


def test_no_two_latents_start_anew_at_one_row():
    # Two that start alike, with equal moments, stay alike for ever.
    weights, moments = some_weights(1), (some_weights(10), some_weights(20))
    error_BD = normal(5, 3, D)
    error_BD[0] *= 1000
    revived_F = revive(weights, moments, torch.arange(F) < 150, error_BD, ALONE, seed=7)
    cosine_PP = weights.W_dec_FD[revived_F] @ weights.W_dec_FD[revived_F].T
    assert len(cosine_PP) == 3
    assert (cosine_PP - torch.eye(3)).max() < 0.99


@pytest.mark.parametrize("different", [True, False])
def test_latents_of_noise_that_start_anew_resemble_those_of_another_seed_only_where_both_draw_from_the_same_rows(different: bool):
    noise_ND = torch.randn(1024, 128, generator=torch.Generator().manual_seed(41))
    noise_ND *= (0.7 * torch.randn(1024, 1, generator=torch.Generator().manual_seed(42))).exp()
    learned = []
    for number, seed in enumerate((7, 8)):
        # Random starts: what is alike comes from new ones alone. All seeds of a run see the same batches.
        config = TrainConfig(dead_after_tokens=256, init_from_rows=0.0, init_part=(number, 2) if different else (0, 1), revive_every=4)
        trainer = SaeTrainer(SaeSpec(128, 512, 4, "matryoshka", seed=seed), config, noise_ND, 120)
        for batch_BD in list(noise_ND.split(256)) * 30:
            trainer.step(batch_BD)
        learned.append(torch.nn.functional.normalize(trainer.weights.W_dec_FD, dim=1))
    alike_share = ((learned[0] @ learned[1].T).amax(1) > 0.7).float().mean()
    assert alike_share < 0.01 if different else alike_share > 0.05
