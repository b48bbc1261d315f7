"""Dictionaries of other libraries: SAELens, sparsify and dictionary_learning folders, read. `formats_export` writes them.

Every format is brought to the one convention of `SparseAutoencoder`: pre-activations are `(x - b_dec) W_enc + b_enc`. Where a library does not take b_dec
off the input, b_dec W_enc goes into b_enc. A matrix stored the other way round is known by its shape, turned, and named in the metadata; a square one is taken
as the format says, and `transposed_square` tells by reconstruction whether that was right.
Shapes: D model width, F latents.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from saebias.errors import InputError, StoreError
from saebias.sae.module import SaeSpec, SparseAutoencoder

Config = Mapping[str, object]
DICTIONARY_LEARNING_CLASSES = (
    "AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder", "GatedAutoEncoder", "AutoEncoder", "AutoEncoderNew",
)  # fmt: skip


@dataclass(frozen=True)
class ReadIn:
    """A dictionary and the matrices (`encoder`, `decoder`) that its folder keeps the other way round than its library."""

    sae: SparseAutoencoder
    transposed: tuple[str, ...]


def load_foreign_sae(folder: Path) -> tuple[SparseAutoencoder, dict[str, object]]:
    """The dictionary of a SAELens, sparsify or dictionary_learning folder, and as metadata the library, its config, and which matrices were found `transposed`.

    Raises StoreError for a missing or damaged file, InputError for a folder of no known kind, a missing key, or shapes that do not fit together.
    """
    library, config_name, weights_name, read = _recognise(folder)
    config = _read_json(folder / config_name)
    tensors = _read_tensors(folder / weights_name)
    try:
        read_in = read(config, tensors)
    except KeyError as error:
        raise InputError(f"{folder} looks like a {library} SAE but has no {error.args[0]!r}; it has {', '.join(sorted({*config, *tensors}))}") from error
    for name, parameter in read_in.sae.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise InputError(f"{folder}: {name} of the {library} SAE holds NaN or infinite numbers; its training diverged")
    return read_in.sae, {"library": library, "config": dict(config), "transposed": " and ".join(read_in.transposed)}


@torch.no_grad()
def transposed_square(sae: SparseAutoencoder, x_ND: Tensor) -> str | None:
    """`encoder`, `decoder` or `encoder and decoder` when a square dictionary rebuilds the rows [N, D] less than half as badly with that matrix turned.

    None for a dictionary that is not square, where shapes tell, and for one that is better as it is.
    """
    if sae.spec.n_latents != sae.spec.d_model:
        return None
    errors = {"": _squared_error(sae, x_ND)}
    for name, matrices in (("encoder", (sae.W_enc_DF,)), ("decoder", (sae.W_dec_FD,)), ("encoder and decoder", (sae.W_enc_DF, sae.W_dec_FD))):
        for matrix in matrices:
            matrix.copy_(matrix.T.clone())
        errors[name] = _squared_error(sae, x_ND)
        for matrix in matrices:
            matrix.copy_(matrix.T.clone())
    best = min(errors, key=lambda name: errors[name])
    return best if errors[best] < 0.5 * errors[""] else None


def _squared_error(sae: SparseAutoencoder, x_ND: Tensor) -> float:
    return (sae(x_ND) - x_ND).double().square().sum().item()


def _recognise(folder: Path) -> tuple[str, str, str, Callable[[Config, Mapping[str, Tensor]], ReadIn]]:
    if (folder / "sae_weights.safetensors").is_file():
        return "SAELens", "cfg.json", "sae_weights.safetensors", _from_saelens
    if (folder / "sae.safetensors").is_file() and (folder / "cfg.json").is_file():
        return "sparsify", "cfg.json", "sae.safetensors", _from_sparsify
    if (folder / "ae.pt").is_file():
        return "dictionary_learning", "config.json", "ae.pt", _from_dictionary_learning
    expected = "cfg.json with sae_weights.safetensors (SAELens) or sae.safetensors (sparsify), or config.json with ae.pt (dictionary_learning)"
    raise InputError(f"{folder} holds no SAE of a known library; expected {expected}")


def _from_saelens(config: Config, tensors: Mapping[str, Tensor]) -> ReadIn:
    architecture = str(config["architecture"])
    if config.get("normalize_activations", "none") not in ("none", None):
        raise InputError(f"the SAELens SAE normalises activations ({config['normalize_activations']!r}); fold that into its weights before importing it")
    if config.get("reshape_activations", "none") not in ("none", None):
        raise InputError(f"the SAELens SAE reshapes activations ({config['reshape_activations']!r}); only SAEs on one vector a token can be imported")
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


def _from_sparsify(config: Config, tensors: Mapping[str, Tensor]) -> ReadIn:
    if config.get("transcode") or config.get("skip_connection"):
        raise InputError("the sparsify folder holds a transcoder, not an autoencoder; only autoencoders can be imported")
    if config.get("activation", "topk") != "topk":
        raise InputError(f"sparsify activation {config['activation']!r} cannot be imported; only topk can")
    parts = {"W_enc": tensors["encoder.weight"].T, "b_enc": tensors["encoder.bias"], "W_dec": tensors["W_dec"], "b_dec": tensors["b_dec"]}
    # sparsify takes b_dec off the input when it is an autoencoder.
    return _built("topk", _integer(config["k"]), parts, b_dec_off_input=True)


def _from_dictionary_learning(config: Config, tensors: Mapping[str, Tensor]) -> ReadIn:
    trainer = config["trainer"]
    if not isinstance(trainer, Mapping):
        raise InputError(f"the dictionary_learning config has trainer {trainer!r}, expected a mapping with dict_class")
    kind = str(trainer["dict_class"])
    if kind in ("AutoEncoderTopK", "BatchTopKSAE", "AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder"):
        parts = {"W_enc": tensors["encoder.weight"].T, "W_dec": tensors["decoder.weight"].T}
    elif kind in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        parts = {name: tensors[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")}
    else:
        raise InputError(f"dictionary_learning class {kind!r} cannot be imported; known are {', '.join(DICTIONARY_LEARNING_CLASSES)}")
    if kind == "MatryoshkaBatchTopKSAE":
        prefixes = tuple(torch.cumsum(tensors["group_sizes"], 0).tolist())
        return _built("matryoshka", int(tensors["k"]), parts, b_dec_off_input=True, prefixes=prefixes)
    if kind in ("AutoEncoderTopK", "BatchTopKSAE"):
        parts |= {"b_enc": tensors["encoder.bias"], "b_dec": tensors["b_dec"]}
        k = int(tensors["k"]) if "k" in tensors else _integer(trainer["k"])
        if kind == "AutoEncoderTopK":
            return _built("topk", k, parts, b_dec_off_input=True)
        return _built("batchtopk", k, parts | {"threshold": tensors["threshold"]}, b_dec_off_input=True)
    if kind == "AutoEncoder":
        return _built("relu", 0, parts | {"b_enc": tensors["encoder.bias"], "b_dec": tensors["bias"]}, b_dec_off_input=True)
    if kind == "AutoEncoderNew":
        return _built("relu", 0, parts | {"b_enc": tensors["encoder.bias"], "b_dec": tensors["decoder.bias"]}, b_dec_off_input=False)
    if kind == "GatedAutoEncoder":
        gate = {"b_enc": tensors["gate_bias"], "b_mag": tensors["mag_bias"], "r_mag": tensors["r_mag"], "b_dec": tensors["decoder_bias"]}
        return _built("gated", 0, parts | gate, b_dec_off_input=True)
    return _built("jumprelu", 0, parts, b_dec_off_input=False)


@torch.no_grad()
def _built(architecture: str, k: int, parts: Mapping[str, Tensor], *, b_dec_off_input: bool, rescale: bool = False, prefixes: tuple[int, ...] = ()) -> ReadIn:
    d_model, n_latents = len(parts["b_dec"]), len(parts["b_enc"])
    W_enc_DF = _turned(parts["W_enc"].float(), (d_model, n_latents), "encoder")
    W_dec_FD = _turned(parts["W_dec"].float(), (n_latents, d_model), "decoder")
    stored_and_used = (("encoder", parts["W_enc"], W_enc_DF), ("decoder", parts["W_dec"], W_dec_FD))
    transposed = tuple(name for name, stored, used in stored_and_used if stored.shape != used.shape)
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
    sae = SparseAutoencoder(SaeSpec(d_model, n_latents, k, architecture, prefixes=prefixes))
    values = {"W_enc_DF": W_enc_DF, "b_enc_F": b_enc_F, "W_dec_FD": W_dec_FD, "b_dec_D": b_dec_D}
    for theirs, ours in (("threshold", "threshold_F"), ("r_mag", "r_mag_F"), ("b_mag", "b_mag_F")):
        if theirs in parts:
            values[ours] = biases.get(theirs, parts[theirs].float()).expand(n_latents)
    for name, parameter in sae.named_parameters():
        if values[name].shape != parameter.shape:
            raise InputError(f"the imported {name} has shape {tuple(values[name].shape)}, {n_latents} latents of width {d_model} need {tuple(parameter.shape)}")
        parameter.copy_(values[name])
    return ReadIn(sae, transposed)


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
