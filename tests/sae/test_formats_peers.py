"""The other libraries load what is written here, and what they write is loaded here, with equal numbers.

Runs where they are installed, such as in the environment that `python -m saebias.sae.bench --peers` makes.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saebias.sae.bench.rows import ShuffledRows, Sizes
from saebias.sae.formats_export import save_dictionary_learning, save_saelens, save_sparsify
from saebias.sae.formats_foreign import load_foreign_sae
from saebias.sae.module import ARCHITECTURES, SaeSpec, SparseAutoencoder

pytestmark = pytest.mark.slow
D_MODEL, N_LATENTS, K = 12, 40, 5


def filled(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
            if "threshold" in name:
                parameter.abs_()
    return module


def our_sae(architecture: str) -> SparseAutoencoder:
    sae = SparseAutoencoder(SaeSpec(D_MODEL, N_LATENTS, K, architecture))
    filled(sae)
    with torch.no_grad():
        sae.W_dec_FD.div_(sae.W_dec_FD.norm(dim=1, keepdim=True))
        if architecture in ("batchtopk", "matryoshka"):
            sae.threshold_F.fill_(0.7)
    return sae.requires_grad_(False)


def rows() -> torch.Tensor:
    return 2 * torch.randn(200, D_MODEL, generator=torch.Generator().manual_seed(8)) + 1


def assert_equal(theirs_encode: Callable, theirs_decode: Callable, ours: SparseAutoencoder) -> None:
    x_ND = rows()
    with torch.no_grad():
        codes_NF = ours.encode(x_ND)
        assert 0 < (codes_NF > 0).float().mean() < 1
        torch.testing.assert_close(theirs_encode(x_ND), codes_NF, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(theirs_decode(codes_NF), ours.decode(codes_NF), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saelens_loads_what_is_written_here(tmp_path: Path, architecture: str) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    ours = our_sae(architecture)
    save_saelens(tmp_path, ours, {"model_name": "tiny", "hook_name": "blocks.3.hook_resid_post"})
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    assert_equal(theirs.encode, theirs.decode, ours)


SAELENS = ["topk", "standard", "jumprelu", "gated", "batchtopk", "matryoshka_batchtopk"]


@pytest.mark.parametrize("off_input", [True, False])
@pytest.mark.parametrize("architecture", SAELENS)
def test_what_saelens_trains_and_writes_is_loaded_here(tmp_path: Path, architecture: str, off_input: bool) -> None:
    pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_training_class

    kind, config_kind = get_sae_training_class(architecture)
    more = {"k": K} if "topk" in architecture else {}
    more |= {"matryoshka_widths": [8, N_LATENTS]} if "matryoshka" in architecture else {}
    training = filled(kind(config_kind(d_in=D_MODEL, d_sae=N_LATENTS, apply_b_dec_to_input=off_input, device="cpu", **more)))
    if architecture.endswith("batchtopk"):
        training.topk_threshold.fill_(0.8)
    training.save_inference_model(tmp_path)
    from sae_lens import SAE

    theirs = SAE.load_from_disk(tmp_path)
    ours, meta = load_foreign_sae(tmp_path)
    assert meta["library"] == "SAELens" and not meta["transposed"]
    x_ND = rows()
    with torch.no_grad():
        # Codes may differ by the norms of the decoder rows, which are folded into the weights here: what they rebuild may not.
        torch.testing.assert_close(theirs(x_ND), ours(x_ND), rtol=1e-3, atol=1e-3)
        assert torch.equal(theirs.encode(x_ND) > 0, ours.encode(x_ND) > 0)


def test_saelens_trained_without_the_mean_of_the_rows_is_handed_back_with_it() -> None:
    pytest.importorskip("sae_lens")
    from saebias.sae.bench.peer_saelens import train_saelens

    x_ND = rows() + 30
    sae = train_saelens(ShuffledRows(x_ND.numpy(), 50, 3), Sizes(D_MODEL, N_LATENTS, K, 50, 300), {"lr": 1e-2, "centred": True})
    with torch.no_grad():
        assert (x_ND - sae(x_ND)).square().sum() < 0.3 * (x_ND - x_ND.mean(0)).square().sum()


def test_sparsify_loads_what_is_written_here_and_the_reverse(tmp_path: Path) -> None:
    sparsify = pytest.importorskip("sparsify")
    ours = our_sae("topk")
    save_sparsify(tmp_path / "ours", ours)
    theirs = sparsify.Sae.load_from_disk(tmp_path / "ours")
    x_ND = rows()
    with torch.no_grad():
        out = theirs(x_ND)
        torch.testing.assert_close(out.sae_out, ours(x_ND), rtol=1e-4, atol=1e-4)
        dense_NF = torch.zeros(len(x_ND), N_LATENTS).scatter_(1, out.latent_indices, out.latent_acts)
        torch.testing.assert_close(dense_NF, ours.encode(x_ND), rtol=1e-4, atol=1e-4)
        written = filled(sparsify.Sae(D_MODEL, sparsify.SaeConfig(num_latents=N_LATENTS, k=K)))
        written.save_to_disk(tmp_path / "theirs")
        torch.testing.assert_close(written(x_ND).sae_out, load_foreign_sae(tmp_path / "theirs")[0](x_ND), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dictionary_learning_loads_what_is_written_here(tmp_path: Path, architecture: str) -> None:
    pytest.importorskip("dictionary_learning")
    from dictionary_learning.utils import load_dictionary

    ours = our_sae(architecture)
    save_dictionary_learning(tmp_path, ours, {"layer": 3, "lm_name": "tiny"})
    theirs, config = load_dictionary(str(tmp_path), "cpu")
    assert config["trainer"]["layer"] == 3
    assert_equal(theirs.encode, theirs.decode, ours)


def test_what_dictionary_learning_writes_is_loaded_here(tmp_path: Path) -> None:
    pytest.importorskip("dictionary_learning")
    import json

    from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    sizes = (D_MODEL, N_LATENTS)
    cut = [BatchTopKSAE(*sizes, K), MatryoshkaBatchTopKSAE(*sizes, K, [8, 32])]
    for theirs in [*cut, AutoEncoderTopK(*sizes, K), AutoEncoder(*sizes), AutoEncoderNew(*sizes), GatedAutoEncoder(*sizes), JumpReluAutoEncoder(*sizes)]:
        filled(theirs)
        if theirs in cut:
            theirs.threshold.fill_(0.6)
        torch.save(theirs.state_dict(), tmp_path / "ae.pt")
        (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": type(theirs).__name__, "k": K}}))
        assert_equal(theirs.encode, theirs.decode, load_foreign_sae(tmp_path)[0])
