"""Loss and gradients of every kind of dictionary against automatic ones of the plainest reference, with both sets of kernels."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from saebias.sae.architectures import BY_NAME, Situation
from saebias.sae.kernels.contract import Kernels, Weights
from saebias.sae.kernels.plain import PlainKernels
from saebias.sae.module import ARCHITECTURES, SaeSpec

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
