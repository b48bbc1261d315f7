"""Both sets of kernels against automatic gradients and against each other."""

from collections.abc import Callable

import pytest
import torch

from saebias.errors import InputError
from saebias.sae.bench.step import time_step
from saebias.sae.kernels.choice import choose_kernels
from saebias.sae.kernels.contract import AdamStep, Kernels, SparseCodes, Weights
from saebias.sae.kernels.plain import PlainKernels
from saebias.sae.module import ARCHITECTURES, SaeSpec
from saebias.sae.trainer import SaeTrainer, TrainConfig

D_MODEL, N_LATENTS, K, N_ROWS = 12, 40, 5, 30


def compiled(**options: object) -> Kernels:
    pytest.importorskip("numba")
    from saebias.sae.kernels.compiled import CompiledKernels

    return CompiledKernels(**options)


KERNELS = {
    "torch": PlainKernels,
    "numba": lambda: compiled(rough_search=False),
    "numba, two threads": lambda: compiled(rough_search=False, n_threads=2),
    "numba, bfloat16 search": lambda: compiled(rough_search=True),
}


@pytest.fixture(params=KERNELS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return KERNELS[request.param]()


def random_weights(seed: int, encoder_bias: float, n_latents: int = N_LATENTS, d_model: int = D_MODEL) -> Weights:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    decoder_FD = torch.nn.functional.normalize(normal(n_latents, d_model), dim=1)
    return Weights(normal(n_latents, d_model), 0.1 * normal(n_latents) + encoder_bias, decoder_FD, normal(d_model))


def random_rows(seed: int, n_rows: int = N_ROWS, d_model: int = D_MODEL) -> torch.Tensor:
    return torch.randn(n_rows, d_model, generator=torch.Generator().manual_seed(seed))


def automatic_gradients(x_BD: torch.Tensor, weights: Weights) -> Weights:
    """Float64 gradients of the plainest implementation: every product dense, the k-th value as threshold."""
    x_BD = x_BD.double()
    leaves = Weights(*(tensor.double().requires_grad_() for tensor in weights.tensors()))
    codes_BF = torch.relu((x_BD - leaves.b_dec_D) @ leaves.W_enc_FD.T + leaves.b_enc_F)
    keep_BF = codes_BF >= codes_BF.topk(K, dim=1).values[:, -1:]
    loss = ((codes_BF * keep_BF) @ leaves.W_dec_FD + leaves.b_dec_D - x_BD).square().mean()
    return Weights(*torch.autograd.grad(loss, leaves.tensors()))


@pytest.mark.parametrize("encoder_bias", [0.0, -5.0], ids=["all k positive", "rows with fewer than k positive"])
def test_gradients_equal_automatic_ones(kernels, encoder_bias):
    weights, x_BD = random_weights(1, encoder_bias), random_rows(2)
    centred_BD = x_BD - weights.b_dec_D
    codes = kernels.encode(centred_BD, weights, K)
    fewest = (codes.values_BK > 0).sum(1).min()
    assert fewest < K if encoder_bias else fewest == K
    rebuilt = kernels.rebuild(x_BD, codes, weights)
    found = kernels.gradients(centred_BD, codes, rebuilt.errors_PBD, rebuilt.error_dots_BK * (2 / x_BD.numel()), weights)
    for gradient, wanted in zip(found.tensors(), automatic_gradients(x_BD, weights).tensors(), strict=True):
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-5, atol=1e-6)


def dense(codes: SparseCodes, n_latents: int) -> torch.Tensor:
    return torch.zeros(len(codes.values_BK), n_latents).scatter_add_(1, codes.indices_BK, codes.values_BK)


@pytest.mark.parametrize(("n_latents", "k"), [(1536, 32), (1000, 7), (37, 20), (64, 63), (5, 1)])
@pytest.mark.parametrize("bias", [0.0, -2.5, -100.0])
def test_every_kernel_selects_the_same_latents(kernels, n_latents, k, bias):
    weights, x_BD = random_weights(3, bias, n_latents, 24), random_rows(4, 200, 24)
    x_BD[::7] *= 1e4
    expected_BF = dense(PlainKernels().encode(x_BD, weights, k), n_latents)
    torch.testing.assert_close(dense(kernels.encode(x_BD, weights, k), n_latents), expected_BF, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [0.0, -2.5, -6.0, -100.0])
@pytest.mark.parametrize("hint_factor", [0.0, 0.3, 1.0, 3.0])
def test_every_kernel_selects_the_same_latents_of_a_batch_whatever_the_hint(kernels, bias, hint_factor):
    weights, x_BD = random_weights(3, bias, 300, 24), random_rows(4, 200, 24)
    x_BD[::50] *= 10
    expected, cut = PlainKernels().encode_batch(x_BD, weights, 8, None)
    codes, found_cut = kernels.encode_batch(x_BD, weights, 8, hint_factor * cut)
    assert found_cut == pytest.approx(cut, rel=1e-4, abs=1e-4)
    torch.testing.assert_close(dense(codes, 300), dense(expected, 300), rtol=1e-4, atol=1e-4)
    assert (codes.values_BK > 0).sum() == min(200 * 8, int((expected.values_BK > 0).sum()))


def test_equal_pre_activations_still_give_exactly_k():
    pytest.importorskip("numba")
    from saebias.sae.kernels.compiled import select_largest

    pre_NF = torch.ones(3, 100)
    pre_NF[1, 50:] = 2.0
    values_NK, indices_NK = select_largest(pre_NF, 10)
    assert torch.equal(values_NK, pre_NF.topk(10).values)
    assert all(len(set(row.tolist())) == 10 for row in indices_NK)
    assert (indices_NK[1] >= 50).all()


def test_a_rough_search_that_misses_latents_is_given_up():
    kernels = compiled(rough_search=True)
    weights, x_BD = random_weights(5, 0.0, 512, 64), random_rows(6, 128, 64)
    weights.W_enc_FD[:] = weights.W_enc_FD[:1] + 1e-4 * weights.W_enc_FD
    weights.b_enc_F[:] = 0
    expected_BF = dense(PlainKernels().encode(x_BD, weights, 16), 512)
    found_BF = dense(kernels.encode(x_BD, weights, 16), 512)
    assert kernels.last_recall < 0.999
    assert not kernels.rough_search
    assert torch.equal(found_BF > 0, expected_BF > 0)


@pytest.mark.parametrize("frozen_decoder", [False, True])
def test_adam_equals_the_optimizer_of_torch_on_the_sphere(kernels, frozen_decoder):
    weights = random_weights(7, 0.0)
    twin = [tensor.double().requires_grad_(not (frozen_decoder and i == 2)) for i, tensor in enumerate(weights.tensors())]
    optimizer = torch.optim.Adam([tensor for tensor in twin if tensor.requires_grad], lr=0.01, betas=(0.9, 0.99))
    first, second = weights.zeros_like(), weights.zeros_like()
    for count in range(1, 6):
        grads = random_weights(100 + count, 0.0)
        for tensor, grad in zip(twin, grads.tensors(), strict=True):
            tensor.grad = 0.5 * grad.double() if tensor.requires_grad else None
        if twin[2].grad is not None:
            twin[2].grad -= (twin[2].grad * twin[2]).sum(1, keepdim=True).detach() * twin[2].detach()
        optimizer.step()
        if not frozen_decoder:
            twin[2].data = torch.nn.functional.normalize(twin[2].data, dim=1)
        kernels.adam(weights, grads, first, second, AdamStep(0.01, count, shrink=0.5, beta2=0.99, frozen_decoder=frozen_decoder))
    for tensor, wanted in zip(weights.tensors(), twin, strict=True):
        torch.testing.assert_close(tensor.double(), wanted.detach(), rtol=1e-4, atol=1e-5)


def test_threads_do_not_change_a_bit():
    weights, x_BD = random_weights(8, 0.0, 512, 64), random_rows(9, 301, 64)
    results = []
    for n_threads in (1, 3):
        kernels = compiled(rough_search=True, n_threads=n_threads)
        codes = kernels.encode(x_BD, weights, 16)
        rebuilt = kernels.rebuild(x_BD, codes, weights)
        grads = kernels.gradients(x_BD, codes, rebuilt.errors_PBD, rebuilt.error_dots_BK, weights)
        results.append([codes.values_BK, codes.indices_BK, rebuilt.error_BD, *grads.tensors()])
    assert all(torch.equal(one, many) for one, many in zip(*results, strict=True))


def test_unknown_kernels_are_named():
    with pytest.raises(InputError, match="unknown SAE kernels 'cuda'; choose one of auto, numba, triton, torch"):
        choose_kernels("cuda")


def test_the_benchmark_times_a_whole_step_of_any_kernels():
    for name in ("auto", "torch"):
        timing = time_step(16, 64, 128, k=4, kernels=name, n_steps=2)
        assert timing.step_ms > 0
        assert timing.step_per_product == pytest.approx(timing.step_ms / timing.product_ms)
    assert timing.kernels == "torch"


def trainings(architecture: str, makers: dict[str, Callable[[], Kernels]], x_ND: torch.Tensor) -> dict[str, SaeTrainer]:
    """One training a set of kernels, on the same 40 batches."""
    trainers = {}
    for name, make in makers.items():
        trainer = SaeTrainer(SaeSpec(x_ND.shape[1], 128, 6, architecture), TrainConfig(kernels="torch", dead_after_tokens=1024), x_ND[:4096], steps=40)
        trainer.kernels = make()
        for start in range(0, 40 * 256, 256):
            trainer.step(x_ND[start : start + 256])
        trainers[name] = trainer
    return trainers


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_trainings_with_any_kernels_come_to_the_same_dictionary(architecture, planted):
    """Among them a processor without bfloat16 products: one that never searches roughly."""
    x_ND = torch.from_numpy(planted.x_ND)
    trainers = trainings(architecture, KERNELS, x_ND)
    reference = trainers["torch"].finished().requires_grad_(False)
    for name, trainer in trainers.items():
        assert trainer.kernels.rough_search == ("bfloat16" in name)
        sae = trainer.finished().requires_grad_(False)
        cosine_F = torch.nn.functional.cosine_similarity(sae.W_dec_FD, reference.W_dec_FD)
        assert cosine_F.mean() > 0.999
        held_out_ND = x_ND[-500:]
        rebuilt_ND, expected_ND = sae(held_out_ND), reference(held_out_ND)
        same_N = ((sae.encode(held_out_ND) > 0) == (reference.encode(held_out_ND) > 0)).all(dim=1)
        # Where two latents of a row are a rounding apart at the last place, one training takes this one and another that one: from there on they part.
        assert same_N.float().mean() > 0.9
        assert (rebuilt_ND - expected_ND).norm(dim=1)[same_N].max() < 0.05 * held_out_ND.norm(dim=1).mean()
        errors = [float((found_ND - held_out_ND).square().sum()) for found_ND in (rebuilt_ND, expected_ND)]
        assert errors[0] == pytest.approx(errors[1], rel=0.01)


def test_where_nothing_multiplies_bfloat16_the_search_is_exact_from_the_start(monkeypatch):
    pytest.importorskip("numba")
    from saebias.sae.kernels import compiled as module

    monkeypatch.setattr(module, "get_host_cpu_features", lambda: {"avx512bf16": False, "amx-bf16": False})
    kernels = module.CompiledKernels()
    assert not kernels.rough_search
    weights, x_BD = random_weights(3, 0.0, 512, 24), random_rows(4, 100, 24)
    torch.testing.assert_close(dense(kernels.encode(x_BD, weights, 16), 512), dense(PlainKernels().encode(x_BD, weights, 16), 512))
    assert kernels.last_recall is None


def test_a_rough_search_of_a_batch_that_misses_latents_is_given_up():
    kernels = compiled(rough_search=True)
    weights, x_BD = random_weights(5, 0.0, 512, 64), random_rows(6, 128, 64)
    # Pre-activations are small differences of large numbers: bfloat16 does not see them.
    weights.b_enc_F[:] = 0
    shared_D = torch.nn.functional.normalize(random_rows(7, 1, 64))[0]
    weights.W_enc_FD += 20_000 * shared_D
    x_BD -= torch.outer(x_BD @ shared_D, shared_D)
    expected, cut = PlainKernels().encode_batch(x_BD, weights, 16, None)
    codes, found_cut = kernels.encode_batch(x_BD, weights, 16, cut)
    assert kernels.last_recall < 0.999
    assert not kernels.rough_search
    assert found_cut == pytest.approx(cut, rel=1e-3)
    different_BF = (dense(codes, 512) > 0) != (dense(expected, 512) > 0)
    # Only rounding of float32 may decide for another one, right at the cut.
    assert different_BF.float().mean() < 1e-3
