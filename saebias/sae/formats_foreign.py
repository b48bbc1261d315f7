"""Dictionaries of other libraries: SAELens, sparsify and dictionary_learning folders, read and written.

Every format is brought to the one convention of `SparseAutoencoder`: pre-activations are `(x - b_dec) W_enc + b_enc`. Where a library does not take b_dec
off the input, b_dec W_enc goes into b_enc. A matrix is turned by its shape; where it is square, by what the format says.
Shapes: D model width, F latents.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from saebias.errors import InputError, StoreError
from saebias.sae.module import SaeSpec, SparseAutoencoder

Config = Mapping[str, object]


def load_foreign_sae(folder: Path) -> tuple[SparseAutoencoder, dict[str, object]]:
    """The dictionary of a SAELens, sparsify or dictionary_learning folder, and the library's own config as metadata.

    Raises StoreError for a missing or damaged file, InputError for a folder of no known kind, a missing key, or shapes that do not fit together.
    """
    library, config_name, weights_name, read = _recognise(folder)
    config = _read_json(folder / config_name)
    tensors = _read_tensors(folder / weights_name)
    try:
        sae = read(config, tensors)
    except KeyError as error:
        raise InputError(f"{folder} looks like a {library} SAE but has no {error.args[0]!r}; it has {', '.join(sorted({*config, *tensors}))}") from error
    return sae, {"library": library, "config": dict(config)}


def _recognise(folder: Path) -> tuple[str, str, str, Callable[[Config, Mapping[str, Tensor]], SparseAutoencoder]]:
    if (folder / "sae_weights.safetensors").is_file():
        return "SAELens", "cfg.json", "sae_weights.safetensors", _from_saelens
    if (folder / "sae.safetensors").is_file() and (folder / "cfg.json").is_file():
        return "sparsify", "cfg.json", "sae.safetensors", _from_sparsify
    if (folder / "ae.pt").is_file():
        return "dictionary_learning", "config.json", "ae.pt", _from_dictionary_learning
    expected = "cfg.json with sae_weights.safetensors (SAELens) or sae.safetensors (sparsify), or config.json with ae.pt (dictionary_learning)"
    raise InputError(f"{folder} holds no SAE of a known library; expected {expected}")


def _from_saelens(config: Config, tensors: Mapping[str, Tensor]) -> SparseAutoencoder:
    architecture = str(config["architecture"])
    if config.get("normalize_activations", "none") not in ("none", None):
        raise InputError(f"the SAELens SAE normalises activations ({config['normalize_activations']!r}); fold that into its weights before importing it")
    kinds = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
    if architecture not in kinds:
        raise InputError(f"SAELens architecture {architecture!r} cannot be imported; known are {', '.join(kinds)}")
    parts = {"W_enc": tensors["W_enc"], "W_dec": tensors["W_dec"], "b_dec": tensors["b_dec"]}
    if architecture == "gated":
        parts |= {"b_enc": tensors["b_gate"], "r_mag": tensors["r_mag"], "b_mag": tensors["b_mag"]}
    else:
        parts["b_enc"] = tensors["b_enc"]
    if architecture == "jumprelu":
        parts["threshold"] = tensors["threshold"]
    k = _integer(config["k"]) if architecture == "topk" else 0
    rescale = architecture == "topk" and bool(config.get("rescale_acts_by_decoder_norm", False))
    return _built(kinds[architecture], k, parts, b_dec_off_input=bool(config["apply_b_dec_to_input"]), rescale=rescale)


def _from_sparsify(config: Config, tensors: Mapping[str, Tensor]) -> SparseAutoencoder:
    if config.get("transcode") or config.get("skip_connection"):
        raise InputError("the sparsify folder holds a transcoder, not an autoencoder; only autoencoders can be imported")
    if config.get("activation", "topk") != "topk":
        raise InputError(f"sparsify activation {config['activation']!r} cannot be imported; only topk can")
    parts = {"W_enc": tensors["encoder.weight"].T, "b_enc": tensors["encoder.bias"], "W_dec": tensors["W_dec"], "b_dec": tensors["b_dec"]}
    # sparsify takes b_dec off the input when it is an autoencoder.
    return _built("topk", _integer(config["k"]), parts, b_dec_off_input=True)


def _from_dictionary_learning(config: Config, tensors: Mapping[str, Tensor]) -> SparseAutoencoder:
    trainer = config["trainer"]
    if not isinstance(trainer, Mapping):
        raise InputError(f"the dictionary_learning config has trainer {trainer!r}, expected a mapping with dict_class")
    kind = str(trainer["dict_class"])
    if kind in ("AutoEncoderTopK", "BatchTopKSAE", "AutoEncoder", "GatedAutoEncoder"):
        parts = {"W_enc": tensors["encoder.weight"].T, "W_dec": tensors["decoder.weight"].T}
    elif kind == "JumpReluAutoEncoder":
        parts = {"W_enc": tensors["W_enc"], "W_dec": tensors["W_dec"], "b_enc": tensors["b_enc"], "threshold": tensors["threshold"]}
    else:
        raise InputError(f"dictionary_learning class {kind!r} cannot be imported")
    if kind in ("AutoEncoderTopK", "BatchTopKSAE"):
        parts |= {"b_enc": tensors["encoder.bias"], "b_dec": tensors["b_dec"]}
        k = int(tensors["k"]) if "k" in tensors else _integer(trainer["k"])
        if kind == "AutoEncoderTopK":
            return _built("topk", k, parts, b_dec_off_input=True)
        return _built("batchtopk", k, parts | {"threshold": tensors["threshold"]}, b_dec_off_input=True)
    if kind == "AutoEncoder":
        return _built("relu", 0, parts | {"b_enc": tensors["encoder.bias"], "b_dec": tensors["bias"]}, b_dec_off_input=True)
    if kind == "GatedAutoEncoder":
        gate = {"b_enc": tensors["gate_bias"], "b_mag": tensors["mag_bias"], "r_mag": tensors["r_mag"], "b_dec": tensors["decoder_bias"]}
        return _built("gated", 0, parts | gate, b_dec_off_input=True)
    return _built("jumprelu", 0, parts | {"b_dec": tensors["b_dec"]}, b_dec_off_input=False)


@torch.no_grad()
def _built(architecture: str, k: int, parts: Mapping[str, Tensor], *, b_dec_off_input: bool, rescale: bool = False) -> SparseAutoencoder:
    d_model, n_latents = len(parts["b_dec"]), len(parts["b_enc"])
    W_enc_DF = _turned(parts["W_enc"].float(), (d_model, n_latents), "encoder")
    W_dec_FD = _turned(parts["W_dec"].float(), (n_latents, d_model), "decoder")
    biases = {name: parts[name].float() for name in ("b_enc", "b_mag") if name in parts}
    b_dec_D = parts["b_dec"].float()
    if not b_dec_off_input:
        biases["b_enc"] = biases["b_enc"] + b_dec_D @ W_enc_DF
        if "b_mag" in biases:
            biases["b_mag"] = biases["b_mag"] + (b_dec_D @ W_enc_DF) * parts["r_mag"].float().exp()
    b_enc_F = biases["b_enc"]
    if rescale:
        # The library ranks codes by what they add to the output: the same as a dictionary of unit rows with that factor in its encoder.
        norm_F = W_dec_FD.norm(dim=1)
        W_enc_DF, b_enc_F, W_dec_FD = W_enc_DF * norm_F, b_enc_F * norm_F, W_dec_FD / norm_F[:, None]
    sae = SparseAutoencoder(SaeSpec(d_model, n_latents, k, architecture))
    values = {"W_enc_DF": W_enc_DF, "b_enc_F": b_enc_F, "W_dec_FD": W_dec_FD, "b_dec_D": b_dec_D}
    for theirs, ours in (("threshold", "threshold_F"), ("r_mag", "r_mag_F"), ("b_mag", "b_mag_F")):
        if theirs in parts:
            values[ours] = biases.get(theirs, parts[theirs].float()).expand(n_latents)
    for name, parameter in sae.named_parameters():
        if values[name].shape != parameter.shape:
            raise InputError(f"the imported {name} has shape {tuple(values[name].shape)}, {n_latents} latents of width {d_model} need {tuple(parameter.shape)}")
        parameter.copy_(values[name])
    return sae


def _turned(matrix: Tensor, shape: tuple[int, int], what: str) -> Tensor:
    if tuple(matrix.shape) == shape:
        return matrix
    if tuple(matrix.T.shape) == shape:
        return matrix.T
    raise InputError(f"the {what} matrix has shape {tuple(matrix.shape)}, the biases say {shape} or its transpose; the folder mixes two dictionaries")


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise InputError(f"the SAE's config has {value!r} where a whole number is needed")
    return value


def _read_json(path: Path) -> dict[str, object]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"there is no {path.name} in {path.parent}; an SAE folder needs its config beside the weights") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not JSON ({str(error).splitlines()[0]}); fetch the SAE again") from error
    if not isinstance(read, dict):
        raise InputError(f"{path} holds a {type(read).__name__}, expected a mapping of settings")
    return read


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        read = torch.load(path, map_location="cpu", weights_only=True) if path.suffix == ".pt" else load_file(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise StoreError(f"{path} is damaged ({str(error).splitlines()[0][:100]}); fetch the SAE again") from error
    if not isinstance(read, dict) or not all(isinstance(value, Tensor) for value in read.values()):
        raise InputError(f"{path} does not hold a mapping of names to tensors; expected a state dict")
    return read


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
        "metadata": dict(metadata),
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
    """Write a topk or batchtopk dictionary as a dictionary_learning folder and return its files; `trainer` (layer, lm_name ...) joins its config."""
    classes = {"topk": "AutoEncoderTopK", "batchtopk": "BatchTopKSAE"}
    if sae.spec.architecture not in classes:
        raise InputError(f"{sae.spec.architecture} SAEs are not exported to dictionary_learning; export this one in the SAELens format")
    spec = sae.spec
    config = {"trainer": {**trainer, "dict_class": classes[spec.architecture], "activation_dim": spec.d_model, "dict_size": spec.n_latents, "k": spec.k}}
    tensors = {"encoder.weight": sae.W_enc_DF.T, "encoder.bias": sae.b_enc_F, "decoder.weight": sae.W_dec_FD.T, "b_dec": sae.b_dec_D, "k": torch.tensor(spec.k)}
    # Their threshold is one number for all latents; -1 means that none was estimated.
    tensors["threshold"] = sae.threshold_F.mean() if spec.architecture == "batchtopk" else torch.tensor(-1.0)
    return _written(folder, "config.json", config, "ae.pt", tensors)


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
