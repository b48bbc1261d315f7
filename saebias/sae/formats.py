"""Dictionaries on disk: one safetensors file with the spec in its header, written whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from saebias.errors import InputError, StoreError
from saebias.sae.module import SaeSpec, SparseAutoencoder

FILE_NAME = "sae.safetensors"
FORMAT = "saebias-sae-1"


def save_sae(folder: Path, sae: SparseAutoencoder, meta: dict[str, object]) -> list[Path]:
    """Write the dictionary as `folder/sae.safetensors` and return the files written.

    `meta` (hook point, language mix, run id ...) goes into the header beside the spec; raises InputError when it is not JSON. The file appears under its
    name only when it is whole.
    """
    try:
        header = {"format": FORMAT, "spec": json.dumps(asdict(sae.spec)), "meta": json.dumps(meta, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise InputError(f"the metadata of an SAE must be plain JSON: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    path, unfinished = folder / FILE_NAME, folder / f".{FILE_NAME}.{os.getpid()}.tmp"
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in sae.state_dict().items()}, unfinished, metadata=header)
        unfinished.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return [path]


def load_sae(path: Path) -> tuple[SparseAutoencoder, dict[str, object]]:
    """The dictionary and its metadata from a folder or file that `save_sae` wrote.

    Raises StoreError when the file is missing or damaged, InputError when it is a safetensors file of something else.
    """
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise StoreError(f"there is no SAE at {file}; run `saebias train` first")
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict, it cannot be iterated
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{file} is damaged ({str(error).splitlines()[0]}); delete it and train this SAE again") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{file} is a safetensors file but no saebias SAE (format {header.get('format')!r}); import foreign SAEs instead of loading them")
    sae = SparseAutoencoder(SaeSpec(**json.loads(header["spec"])))
    _fill(sae, tensors, file)
    return sae, json.loads(header["meta"])


def _fill(sae: SparseAutoencoder, tensors: dict[str, torch.Tensor], file: Path) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        raise StoreError(f"{file} holds {found}, its header promises {expected}; delete it and train this SAE again")
    sae.load_state_dict(tensors)
