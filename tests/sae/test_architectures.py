"""Loss and gradients of every kind of dictionary against automatic ones of the plainest reference, with both sets of kernels."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from saebias.sae.architectures import BY_NAME, Situation
from saebias.sae.kernels.contract import Kernels, Weights
from saebias.sae.kernels.plain import PlainKernels
from saebias.sae.module import ARCHITECTURES, SaeSpec, SparseAutoencoder
from saebias.sae.trainer import SaeTrainer, TrainConfig

from .conftest import DATA_SEED, Planted

D_MODEL, N_LATENTS, K, N_ROWS, PENALTY, BANDWIDTH = 12, 40, 5, 30, 0.03, 0.4
PREFIXES = (3, 11, 40)


def compiled(**options: object) -> Kernels:
    pytest.importorskip("numba")
    from saebias.sae.kernels.compiled import CompiledKernels

    return CompiledKernels(**options)


@pytest.fixture(params=["torch", "numba"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return PlainKernels() if request.param == "torch" else compiled(rough_search=False, n_threads=2)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def situation(architecture: str, kernels: Kernels, encoder_bias: float = 0.0) -> Situation:
    spec = SaeSpec(D_MODEL, N_LATENTS, K, architecture, prefixes=PREFIXES if architecture == "matryoshka" else ())
    decoder_FD = torch.nn.functional.normalize(normal(1, N_LATENTS, D_MODEL), dim=1)
    weights = Weights(0.7 * normal(2, N_LATENTS, D_MODEL), 0.1 * normal(3, N_LATENTS), decoder_FD, normal(4, D_MODEL))
    BY_NAME[architecture].start(weights, 1.5)
    weights.b_enc_F += 0.3 * normal(5, N_LATENTS) + encoder_bias
    for seed, tensor in enumerate(weights.extra.values()):
        tensor += 0.2 * normal(10 + seed, N_LATENTS)
    return Situation(spec, weights, kernels, PENALTY, BANDWIDTH)


def squared(x_hat_BD: Tensor, x_BD: Tensor) -> Tensor:
    return (x_hat_BD - x_BD).square().mean()


class Jump(torch.autograd.Function):
    """p H(p - t) with the rectangle kernel of the paper."""

    @staticmethod
    def forward(ctx, pre, threshold):
        ctx.save_for_backward(pre, threshold)
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx, grad):
        pre, threshold = ctx.saved_tensors
        near = ((pre - threshold).abs() / BANDWIDTH < 0.5).to(pre.dtype)
        return grad * (pre > threshold), -(threshold / BANDWIDTH * near * grad).sum(0)


class Step(torch.autograd.Function):
    """H(p - t) with the rectangle kernel of the paper."""

    @staticmethod
    def forward(ctx, pre, threshold):
        ctx.save_for_backward(pre, threshold)
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx, grad):
        pre, threshold = ctx.saved_tensors
        near = ((pre - threshold).abs() / BANDWIDTH < 0.5).to(pre.dtype)
        return torch.zeros_like(pre), -(near * grad).sum(0) / BANDWIDTH


def topk_loss(w: Weights, pre_BF: Tensor, x_BD: Tensor) -> Tensor:
    codes_BF = torch.relu(pre_BF)
    return squared((codes_BF * (codes_BF >= codes_BF.topk(K).values[:, -1:])) @ w.W_dec_FD + w.b_dec_D, x_BD)


def batchtopk_codes(pre_BF: Tensor) -> Tensor:
    codes_BF = torch.relu(pre_BF)
    return codes_BF * (codes_BF >= codes_BF.flatten().topk(K * N_ROWS).values[-1])


def batchtopk_loss(w: Weights, pre_BF: Tensor, x_BD: Tensor) -> Tensor:
    return squared(batchtopk_codes(pre_BF) @ w.W_dec_FD + w.b_dec_D, x_BD)


def matryoshka_loss(w: Weights, pre_BF: Tensor, x_BD: Tensor) -> Tensor:
    codes_BF = batchtopk_codes(pre_BF)
    return sum(squared(codes_BF[:, :size] @ w.W_dec_FD[:size] + w.b_dec_D, x_BD) for size in PREFIXES)


def relu_loss(w: Weights, pre_BF: Tensor, x_BD: Tensor) -> Tensor:
    codes_BF = torch.relu(pre_BF)
    return squared(codes_BF @ w.W_dec_FD + w.b_dec_D, x_BD) + PENALTY * (codes_BF * w.W_dec_FD.norm(dim=1)).sum(1).mean()


def jumprelu_loss(w: Weights, pre_BF: Tensor, x_BD: Tensor) -> Tensor:
    threshold_F = w.extra["log_threshold_F"].exp()
    return squared(Jump.apply(pre_BF, threshold_F) @ w.W_dec_FD + w.b_dec_D, x_BD) + PENALTY * Step.apply(pre_BF, threshold_F).sum(1).mean()


def gated_loss(w: Weights, pre_BF: Tensor, x_BD: Tensor) -> Tensor:
    magnitude_BF = torch.relu(((x_BD - w.b_dec_D) @ w.W_enc_FD.T) * w.extra["r_mag_F"].exp() + w.extra["b_mag_F"])
    main = squared(((pre_BF > 0) * magnitude_BF) @ w.W_dec_FD + w.b_dec_D, x_BD)
    gates_BF = torch.relu(pre_BF)
    return main + PENALTY * gates_BF.sum(1).mean() + squared(gates_BF @ w.W_dec_FD.detach() + w.b_dec_D.detach(), x_BD)


LOSSES: dict[str, Callable[[Weights, Tensor, Tensor], Tensor]] = {
    "topk": topk_loss,
    "batchtopk": batchtopk_loss,
    "matryoshka": matryoshka_loss,
    "jumprelu": jumprelu_loss,
    "gated": gated_loss,
    "relu": relu_loss,
}


def on_the_sphere(grads: Weights, decoder_FD: Tensor) -> dict[str, Tensor]:
    """Gradients as the optimizer uses them: decoder rows have unit norm, what points along them is taken off."""
    radial_F1 = (grads.W_dec_FD * decoder_FD).sum(1, keepdim=True)
    return {name: tensor.double() for name, tensor in grads.named().items()} | {"W_dec_FD": (grads.W_dec_FD - radial_F1 * decoder_FD).double()}


@pytest.mark.parametrize("encoder_bias", [0.0, -5.0], ids=["enough positive", "rows with fewer than k positive"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_equal_automatic_ones(architecture, encoder_bias, kernels):
    s, x_BD = situation(architecture, kernels, encoder_bias), normal(20, N_ROWS, D_MODEL)
    leaves = s.weights.zeros_like()
    for name, tensor in leaves.named().items():
        tensor.data = s.weights.named()[name].double()
        tensor.requires_grad_()
    pre_BF = (x_BD.double() - leaves.b_dec_D) @ leaves.W_enc_FD.T + leaves.b_enc_F
    loss = LOSSES[architecture](leaves, pre_BF, x_BD.double())
    wanted = leaves.zeros_like()
    for name, gradient in zip(wanted.named(), torch.autograd.grad(loss, leaves.tensors(), allow_unused=True), strict=True):
        if gradient is not None:
            wanted.named()[name].copy_(gradient)
    lesson = BY_NAME[architecture].learn(s, x_BD, x_BD - s.weights.b_dec_D)
    fewest = (lesson.codes.values_BK > 0).sum(1).min()
    assert fewest < K if encoder_bias else fewest > 0
    assert lesson.loss == pytest.approx(loss.item(), rel=1e-5)
    decoder_FD = s.weights.W_dec_FD.double()
    found = on_the_sphere(lesson.grads, s.weights.W_dec_FD)
    for name, gradient in on_the_sphere(wanted, decoder_FD).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_a_batch_with_many_active_latents_is_the_same_in_chunks_as_whole(monkeypatch):
    from saebias.sae.kernels import compiled as compiled_module

    s, x_BD = situation("relu", compiled(rough_search=False)), normal(21, 300, D_MODEL)
    s.weights.b_enc_F[:] = 0.1
    x_BD[:64] *= 0.1
    whole = BY_NAME["relu"].learn(s, x_BD, x_BD - s.weights.b_dec_D)
    monkeypatch.setattr(compiled_module, "CHUNK_BYTES", 1)
    pieces = BY_NAME["relu"].learn(s, x_BD, x_BD - s.weights.b_dec_D)
    assert whole.loss == pytest.approx(pieces.loss, rel=1e-6)
    torch.testing.assert_close(whole.grads.W_enc_FD, pieces.grads.W_enc_FD)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_auxk_moves_the_encoder_of_dead_latents_of_every_kind(architecture, planted):
    rows_ND = torch.from_numpy(planted.x_ND[:16_384])
    spec = SaeSpec(d_model=32, n_latents=128, k=6, seed=3, architecture=architecture)
    revived = {}
    for coefficient in (0.0, 1 / 8):
        # A fixed penalty and no new starts: both would revive some latents by themselves.
        config = TrainConfig(batch_size=256, dead_after_tokens=512, aux_coefficient=coefficient, sparsity_coefficient=0.02, revive_every=0)
        trainer = SaeTrainer(spec, config, rows_ND[:4096], steps=200)
        # So far below that they are negative, or below their threshold, on every row.
        trainer.weights.b_enc_F[:64] -= 3.0
        start_FD = trainer.weights.W_enc_FD[:64].clone()
        for step in range(200):
            trainer.step(rows_ND[(step * 53) % 16_000 :][:256])
        moved_F = (trainer.weights.W_enc_FD[:64] - start_FD).abs().amax(1) > 1e-3
        revived[coefficient] = int((moved_F & ~trainer.dead_F()[:64]).sum())
    assert revived[0.0] <= 10
    assert revived[1 / 8] >= revived[0.0] + 10


@pytest.mark.parametrize("architecture", ["relu", "gated", "jumprelu"])
@pytest.mark.parametrize(("k", "frozen_decoder"), [(3, False), (6, False), (12, False), (6, True)])
def test_a_penalised_dictionary_comes_to_the_number_of_active_latents_that_was_asked_for(architecture, k, frozen_decoder, planted):
    spec = SaeSpec(d_model=32, n_latents=128, k=k, seed=3, architecture=architecture, frozen_decoder=frozen_decoder)
    sae, validation_ND = trained_on(planted, spec)
    assert (sae.encode(validation_ND) > 0).sum(1).float().mean().item() == pytest.approx(k, rel=0.1)


def test_a_fixed_penalty_is_kept(planted):
    spec = SaeSpec(d_model=32, n_latents=128, k=6, architecture="jumprelu")
    trainer = SaeTrainer(spec, TrainConfig(sparsity_coefficient=0.01), torch.from_numpy(planted.x_ND[:2048]), steps=10)
    for _ in range(10):
        trainer.step(torch.from_numpy(planted.x_ND[:512]))
    assert trainer.penalty.weight == 0.01


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_planted_directions_are_recovered_and_not_by_a_frozen_decoder(architecture, planted):
    spec = SaeSpec(d_model=32, n_latents=128, k=6, seed=3, architecture=architecture)
    assert spec.seed != DATA_SEED
    found, control = (mean_matched_cosine(trained_on(planted, s)[0], planted) for s in (spec, dataclasses.replace(spec, frozen_decoder=True)))
    # The planted directions are all equally frequent; the small prefixes of a matryoshka dictionary must stand for several of them.
    assert found > (0.8 if architecture == "matryoshka" else 0.95)
    assert control < 0.55


def trained_on(planted: Planted, spec: SaeSpec) -> tuple[SparseAutoencoder, Tensor]:
    """The dictionary after four passes over the rows, and rows it never saw."""
    rows_ND, validation_ND = torch.from_numpy(planted.x_ND[:-2000]), torch.from_numpy(planted.x_ND[-2000:])
    order = torch.cat([torch.randperm(len(rows_ND), generator=torch.Generator().manual_seed(11 + epoch)) for epoch in range(4)])
    batches = order.split(256)[:-1]
    trainer = SaeTrainer(spec, TrainConfig(batch_size=256), rows_ND[order[:8192]], len(batches))
    for batch in batches:
        trainer.step(rows_ND[batch])
    return trainer.finished().requires_grad_(False), validation_ND


def mean_matched_cosine(sae: SparseAutoencoder, planted: Planted) -> float:
    """MCC: mean cosine of planted directions and decoder rows under the best one-to-one assignment."""
    cosine_FG = sae.W_dec_FD.numpy() @ planted.directions_GD.T
    return float(cosine_FG[linear_sum_assignment(-cosine_FG)].mean())
