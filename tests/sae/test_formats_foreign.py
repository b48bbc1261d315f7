"""Dictionaries of other libraries give the same numbers here, checked against each library's own formula."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saebias.errors import InputError, StoreError
from saebias.sae.formats_export import save_dictionary_learning, save_saelens, save_sparsify
from saebias.sae.formats_foreign import load_foreign_sae, transposed_square
from saebias.sae.module import ARCHITECTURES, SaeSpec, SparseAutoencoder

D_MODEL, N_LATENTS, K = 8, 24, 3
SQUARE = 24


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[D_MODEL, SQUARE], ids=["wide", "square"])
def d_model(request: pytest.FixtureRequest) -> int:
    return request.param


def top_k(pre_NF: torch.Tensor) -> torch.Tensor:
    values, indices = torch.relu(pre_NF).topk(K)
    return torch.zeros_like(pre_NF).scatter(1, indices, values)


def write(folder: Path, config_name: str, config: dict[str, object], weights_name: str, tensors: dict[str, torch.Tensor]) -> Path:
    (folder / config_name).write_text(json.dumps(config))
    if weights_name.endswith(".pt"):
        torch.save(tensors, folder / weights_name)
    else:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / weights_name)
    return folder


def assert_same(folder: Path, x_ND: torch.Tensor, codes_NF: torch.Tensor, x_hat_ND: torch.Tensor, transposed: str = "") -> None:
    sae, meta = load_foreign_sae(folder)
    assert meta["transposed"] == transposed
    torch.testing.assert_close(sae.encode(x_ND), codes_NF, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sae(x_ND), x_hat_ND, rtol=1e-4, atol=1e-5)
    assert meta["config"]


def saelens_parts(d_model: int) -> dict[str, torch.Tensor]:
    return {"W_enc": normal(1, d_model, N_LATENTS), "W_dec": normal(2, N_LATENTS, d_model), "b_enc": normal(3, N_LATENTS), "b_dec": normal(4, d_model)}


@pytest.mark.parametrize("off_input", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
def test_saelens_topk(tmp_path, d_model, off_input, rescale):
    p, x_ND = saelens_parts(d_model), normal(5, 50, d_model)
    config = {"architecture": "topk", "d_in": d_model, "d_sae": N_LATENTS, "k": K, "apply_b_dec_to_input": off_input, "rescale_acts_by_decoder_norm": rescale}
    norm_F = p["W_dec"].norm(dim=1) if rescale else torch.ones(N_LATENTS)
    codes_NF = top_k(((x_ND - off_input * p["b_dec"]) @ p["W_enc"] + p["b_enc"]) * norm_F)
    folder = write(tmp_path, "cfg.json", config, "sae_weights.safetensors", p)
    assert_same(folder, x_ND, codes_NF, (codes_NF / norm_F) @ p["W_dec"] + p["b_dec"])


@pytest.mark.parametrize("off_input", [True, False])
def test_saelens_jumprelu_and_standard(tmp_path, d_model, off_input):
    p, x_ND = saelens_parts(d_model), normal(5, 50, d_model)
    pre_NF = (x_ND - off_input * p["b_dec"]) @ p["W_enc"] + p["b_enc"]
    threshold_F = normal(6, N_LATENTS).abs()
    for architecture, extra, codes_NF in [
        ("jumprelu", {"threshold": threshold_F}, torch.relu(pre_NF) * (pre_NF > threshold_F)),
        ("standard", {}, torch.relu(pre_NF)),
    ]:
        write(tmp_path, "cfg.json", {"architecture": architecture, "apply_b_dec_to_input": off_input}, "sae_weights.safetensors", p | extra)
        assert_same(tmp_path, x_ND, codes_NF, codes_NF @ p["W_dec"] + p["b_dec"])


@pytest.mark.parametrize("off_input", [True, False])
def test_saelens_gated(tmp_path, d_model, off_input):
    p, x_ND = saelens_parts(d_model), normal(5, 50, d_model)
    del p["b_enc"]
    p |= {"b_gate": normal(7, N_LATENTS), "b_mag": normal(8, N_LATENTS), "r_mag": 0.3 * normal(9, N_LATENTS)}
    sae_in = x_ND - off_input * p["b_dec"]
    gate_NF = sae_in @ p["W_enc"] + p["b_gate"] > 0
    codes_NF = gate_NF * torch.relu(sae_in @ (p["W_enc"] * p["r_mag"].exp()) + p["b_mag"])
    write(tmp_path, "cfg.json", {"architecture": "gated", "apply_b_dec_to_input": off_input}, "sae_weights.safetensors", p)
    assert_same(tmp_path, x_ND, codes_NF, codes_NF @ p["W_dec"] + p["b_dec"])


@pytest.mark.parametrize("turned", [False, True])
def test_sparsify_with_its_decoder_either_way_round(tmp_path, turned):
    p = {
        "encoder.weight": normal(1, N_LATENTS, D_MODEL),
        "encoder.bias": normal(2, N_LATENTS),
        "W_dec": normal(3, N_LATENTS, D_MODEL),
        "b_dec": normal(4, D_MODEL),
    }
    x_ND = normal(5, 50, D_MODEL)
    codes_NF = top_k((x_ND - p["b_dec"]) @ p["encoder.weight"].T + p["encoder.bias"])
    on_disk = p | ({"W_dec": p["W_dec"].T} if turned else {})
    write(tmp_path, "cfg.json", {"activation": "topk", "k": K, "num_latents": N_LATENTS, "d_in": D_MODEL}, "sae.safetensors", on_disk)
    assert_same(tmp_path, x_ND, codes_NF, codes_NF @ p["W_dec"] + p["b_dec"], "decoder" if turned else "")


def test_dictionary_learning_classes(tmp_path, d_model):
    x_ND = normal(5, 50, d_model)
    p = {"encoder.weight": normal(1, N_LATENTS, d_model), "decoder.weight": normal(3, d_model, N_LATENTS)}
    bias = {"encoder.bias": normal(2, N_LATENTS), "b_dec": normal(4, d_model)}
    gated = {"gate_bias": normal(6, N_LATENTS), "mag_bias": normal(7, N_LATENTS), "r_mag": normal(8, N_LATENTS), "decoder_bias": bias["b_dec"]}
    linear_NF = (x_ND - bias["b_dec"]) @ p["encoder.weight"].T
    pre_NF = linear_NF + bias["encoder.bias"]
    threshold_F = normal(9, N_LATENTS).abs()
    jump = {"W_enc": p["encoder.weight"].T, "W_dec": p["decoder.weight"].T, "b_enc": bias["encoder.bias"], "b_dec": bias["b_dec"], "threshold": threshold_F}
    jump_pre_NF = x_ND @ p["encoder.weight"].T + bias["encoder.bias"]
    for name, tensors, codes_NF in [
        ("AutoEncoderTopK", p | bias | {"k": torch.tensor(K), "threshold": torch.tensor(-1.0)}, top_k(pre_NF)),
        ("BatchTopKSAE", p | bias | {"k": torch.tensor(K), "threshold": torch.tensor(1.5)}, torch.relu(pre_NF) * (pre_NF > 1.5)),
        ("AutoEncoder", p | {"encoder.bias": bias["encoder.bias"], "bias": bias["b_dec"]}, torch.relu(pre_NF)),
        ("GatedAutoEncoder", p | gated, (linear_NF + gated["gate_bias"] > 0) * torch.relu(gated["r_mag"].exp() * linear_NF + gated["mag_bias"])),
        ("AutoEncoderNew", p | {"encoder.bias": bias["encoder.bias"], "decoder.bias": bias["b_dec"]}, torch.relu(jump_pre_NF)),
        (
            "MatryoshkaBatchTopKSAE",
            jump | {"k": torch.tensor(K), "threshold": torch.tensor(1.5), "group_sizes": torch.tensor([8, 16])},
            torch.relu(pre_NF) * (pre_NF > 1.5),
        ),
        ("JumpReluAutoEncoder", jump, torch.relu(jump_pre_NF) * (jump_pre_NF > threshold_F)),
    ]:
        write(tmp_path, "config.json", {"trainer": {"dict_class": name}}, "ae.pt", tensors)
        assert_same(tmp_path, x_ND, codes_NF, codes_NF @ p["decoder.weight"].T + bias["b_dec"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_written_is_read_back_with_equal_numbers(tmp_path, architecture):
    sae = SparseAutoencoder(SaeSpec(D_MODEL, N_LATENTS, K, architecture))
    with torch.no_grad():
        for seed, parameter in enumerate(sae.parameters()):
            parameter.copy_(normal(20 + seed, *parameter.shape))
        if architecture in ("batchtopk", "matryoshka"):
            sae.threshold_F.fill_(0.7)
    save_saelens(tmp_path / "saelens", sae, {"model_name": "tiny"})
    folders = [tmp_path / "saelens"]
    if architecture == "topk":
        save_sparsify(tmp_path / "sparsify", sae)
        folders.append(tmp_path / "sparsify")
    save_dictionary_learning(tmp_path / "dl", sae, {"layer": 3})
    folders.append(tmp_path / "dl")
    x_ND = normal(5, 50, D_MODEL)
    for folder in folders:
        loaded, _ = load_foreign_sae(folder)
        torch.testing.assert_close(loaded(x_ND), sae(x_ND), rtol=1e-4, atol=1e-4)


def test_thresholds_that_dictionary_learning_cannot_keep_are_refused(tmp_path):
    sae = SparseAutoencoder(SaeSpec(D_MODEL, N_LATENTS, K, "batchtopk"))
    with torch.no_grad():
        sae.threshold_F.copy_(torch.arange(float(N_LATENTS)))
    with pytest.raises(InputError, match="thresholds from 0 to 23 cannot be kept"):
        save_dictionary_learning(tmp_path, sae, {})


@pytest.mark.parametrize("turned", ["encoder", "decoder", "encoder and decoder"])
def test_a_square_matrix_that_was_stored_the_other_way_round_is_told_by_reconstruction(turned):
    sae = SparseAutoencoder(SaeSpec(SQUARE, SQUARE, 20))
    with torch.no_grad():
        rotation, _ = torch.linalg.qr(normal(1, SQUARE, SQUARE))
        sae.W_enc_DF.copy_(torch.cat([rotation, -rotation], 1)[:, :SQUARE])
        sae.W_dec_FD.copy_(sae.W_enc_DF.T)
        x_ND = torch.relu(normal(2, 200, SQUARE)) @ sae.W_dec_FD
        assert transposed_square(sae, x_ND) is None
        for name, matrix in (("encoder", sae.W_enc_DF), ("decoder", sae.W_dec_FD)):
            if name in turned:
                matrix.copy_(matrix.T.clone())
    assert transposed_square(sae, x_ND) == turned
    assert transposed_square(SparseAutoencoder(SaeSpec(8, 30, 3)), normal(3, 5, 8)) is None


def test_folders_that_cannot_be_used_are_named_in_one_line(tmp_path):
    with pytest.raises(InputError, match="no SAE of a known library"):
        load_foreign_sae(tmp_path)
    save_saelens(tmp_path, SparseAutoencoder(SaeSpec(D_MODEL, N_LATENTS, K)), {})
    weights = tmp_path / "sae_weights.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor for name, tensor in tensors.items() if name != "b_dec"}, weights)
    with pytest.raises(InputError, match="SAELens SAE but has no 'b_dec'"):
        load_foreign_sae(tmp_path)
    save_file(tensors | {"W_dec": torch.zeros(5, 5)}, weights)
    with pytest.raises(InputError, match=r"decoder matrix has shape \(5, 5\)"):
        load_foreign_sae(tmp_path)
    weights.write_bytes(weights.read_bytes()[:60])
    with pytest.raises(StoreError, match="damaged"):
        load_foreign_sae(tmp_path)
    (tmp_path / "cfg.json").unlink()
    with pytest.raises(StoreError, match=r"no cfg\.json"):
        load_foreign_sae(tmp_path)


def test_pickled_code_in_a_weights_file_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"encoder.weight": Trap()}, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderTopK"}}))
    with pytest.raises(StoreError, match="damaged"):
        load_foreign_sae(tmp_path)
    assert not (tmp_path / "ran").exists()
