"""Dictionaries written as SAELens, sparsify and dictionary_learning folders, so that these libraries load them with equal numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from saebias.errors import InputError
from saebias.sae.module import SparseAutoencoder


def save_saelens(folder: Path, sae: SparseAutoencoder, metadata: Mapping[str, object]) -> list[Path]:
    """Write the dictionary as a SAELens folder and return its files; batchtopk and matryoshka become the jumprelu with the same thresholds.

    `metadata` (model_name, hook_name ...) goes under that key of cfg.json.
    """
    names = {"topk": "topk", "batchtopk": "jumprelu", "matryoshka": "jumprelu", "jumprelu": "jumprelu", "gated": "gated", "relu": "standard"}
    kind = names[sae.spec.architecture]
    tensors = {"W_enc": sae.W_enc_DF, "W_dec": sae.W_dec_FD, "b_dec": sae.b_dec_D}
    if kind == "gated":
        tensors |= {"b_gate": sae.b_enc_F, "r_mag": sae.r_mag_F, "b_mag": sae.b_mag_F}
    else:
        tensors["b_enc"] = sae.b_enc_F
    if kind == "jumprelu":
        tensors["threshold"] = sae.threshold_F
    config: dict[str, object] = {
        "architecture": kind,
        "d_in": sae.spec.d_model,
        "d_sae": sae.spec.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        # Without a version SAELens takes the file for one of before 6.0 and drops the metadata.
        "metadata": {"sae_lens_version": "6.0.0", **metadata},
    }
    if kind == "topk":
        config |= {"k": sae.spec.k, "rescale_acts_by_decoder_norm": False}
    return _written(folder, "cfg.json", config, "sae_weights.safetensors", tensors)


def save_sparsify(folder: Path, sae: SparseAutoencoder) -> list[Path]:
    """Write a topk dictionary as a sparsify folder and return its files; raises InputError for other architectures."""
    if sae.spec.architecture != "topk":
        raise InputError(f"sparsify has no {sae.spec.architecture} SAEs; export this one in the SAELens format")
    spec = sae.spec
    config: dict[str, object] = {
        "activation": "topk",
        "d_in": spec.d_model,
        "expansion_factor": max(1, round(spec.n_latents / spec.d_model)),
        "k": spec.k,
        "multi_topk": False,
        "normalize_decoder": True,
        "num_latents": spec.n_latents,
        "skip_connection": False,
        "transcode": False,
    }
    tensors = {"encoder.weight": sae.W_enc_DF.T, "encoder.bias": sae.b_enc_F, "W_dec": sae.W_dec_FD, "b_dec": sae.b_dec_D}
    return _written(folder, "cfg.json", config, "sae.safetensors", tensors)


def save_dictionary_learning(folder: Path, sae: SparseAutoencoder, trainer: Mapping[str, object]) -> list[Path]:
    """Write the dictionary as a dictionary_learning folder and return its files; `trainer` (layer, lm_name ...) joins its config.

    Raises InputError for a batchtopk or matryoshka dictionary whose latents have different thresholds: that library keeps one for all.
    """
    spec = sae.spec
    dict_class, tensors = _dictionary_learning_tensors(sae)
    config = {"trainer": {**trainer, "dict_class": dict_class, "activation_dim": spec.d_model, "dict_size": spec.n_latents, "k": spec.k}}
    return _written(folder, "config.json", config, "ae.pt", tensors)


def _dictionary_learning_tensors(sae: SparseAutoencoder) -> tuple[str, dict[str, Tensor]]:
    spec = sae.spec
    linear = {"encoder.weight": sae.W_enc_DF.T, "decoder.weight": sae.W_dec_FD.T}
    direct = {"W_enc": sae.W_enc_DF, "W_dec": sae.W_dec_FD, "b_dec": sae.b_dec_D}
    k = {"k": torch.tensor(spec.k, dtype=torch.int32)}
    match spec.architecture:
        case "topk":
            # A threshold of -1 says that none was estimated.
            return "AutoEncoderTopK", linear | {"encoder.bias": sae.b_enc_F, "b_dec": sae.b_dec_D, "threshold": torch.tensor(-1.0)} | k
        case "batchtopk":
            return "BatchTopKSAE", linear | {"encoder.bias": sae.b_enc_F, "b_dec": sae.b_dec_D, "threshold": _one_threshold(sae)} | k
        case "matryoshka":
            groups = {"group_sizes": torch.diff(torch.tensor((0, *spec.prefixes))), "threshold": _one_threshold(sae), "b_enc": sae.b_enc_F}
            return "MatryoshkaBatchTopKSAE", direct | groups | k
        case "jumprelu":
            # Their JumpReLU does not take b_dec off the input.
            return "JumpReluAutoEncoder", direct | {"b_enc": sae.b_enc_F - sae.b_dec_D @ sae.W_enc_DF, "threshold": sae.threshold_F}
        case "gated":
            biases = {"gate_bias": sae.b_enc_F, "mag_bias": sae.b_mag_F, "r_mag": sae.r_mag_F, "decoder_bias": sae.b_dec_D}
            return "GatedAutoEncoder", linear | biases
        case _:
            return "AutoEncoder", linear | {"encoder.bias": sae.b_enc_F, "bias": sae.b_dec_D}


def _one_threshold(sae: SparseAutoencoder) -> Tensor:
    lowest, highest = sae.threshold_F.min(), sae.threshold_F.max()
    if lowest != highest:
        raise InputError(f"thresholds from {lowest:.4g} to {highest:.4g} cannot be kept by dictionary_learning, which has one; export in the SAELens format")
    return lowest


def _written(folder: Path, config_name: str, config: Mapping[str, object], weights_name: str, tensors: Mapping[str, Tensor]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    config_path, weights_path = folder / config_name, folder / weights_name
    unfinished = weights_path.with_name(weights_name + ".tmp")
    if weights_path.suffix == ".pt":
        torch.save(plain, unfinished)
    else:
        save_file(plain, unfinished)
    config_path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    unfinished.replace(weights_path)
    return [config_path, weights_path]
