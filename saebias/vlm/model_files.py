"""What must hold of a model's files before they are loaded: all there, none cut short, none changed since they were recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from transformers.utils import logging as transformers_logging

from saebias.errors import ModelError

WEIGHT_SUFFIXES = (".safetensors", ".bin")
SUMS = "SHA256SUMS"
"""A file of this name in a model folder, in the form that `sha256sum` writes, is held against the files."""


def check_folder(folder: Path, way_out: str = "fetch these files again") -> list[Path]:
    """The weight files of a model folder, in order; raises ModelError naming those that are missing or cut short."""
    if not (folder / "config.json").is_file():
        present = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise ModelError(f"{folder} has no config.json, so it is not a model folder (it holds {present}); save one there with save_pretrained")
    weights = _weight_files(folder, way_out)
    problems = [problem for path in weights if (problem := cut_short(path)) is not None]
    if problems:
        raise ModelError(f"{folder} is incomplete: {'; '.join(problems)}; {way_out}")
    return weights


def _weight_files(folder: Path, way_out: str) -> list[Path]:
    for index in sorted(folder.glob("*.index.json")):
        named = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        missing = [file for file in named if not (folder / file).is_file()]
        if missing:
            raise ModelError(f"{folder} is incomplete: {index.name} names {len(named)} weight files, missing {', '.join(missing)}; {way_out}")
        return [folder / file for file in named]
    found = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    if not found:
        raise ModelError(f"{folder} has no weight file (*.safetensors or *.bin); {way_out}")
    return found


def cut_short(path: Path) -> str | None:
    """What is wrong with the size of a safetensors file, whose header tells where its last tensor ends; None where nothing is."""
    if path.suffix != ".safetensors":
        return None
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            return f"{path.name} is cut short at {size:,} bytes, within its header"
        try:
            header = json.loads(stream.read(length))
        except ValueError:
            return f"{path.name} has no safetensors header"
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    return None if size == expected else f"{path.name} has {size:,} bytes of {expected:,}"


def check_cached(name: str, revision: str | None, command: str) -> None:
    """Raise ModelError, file by file, where the hub's cache on this machine holds model `name` in part only; silent where it holds nothing of it."""
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(config, str):
        check_folder(Path(config).parent, f"finish the download with `{command}`")


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_digest(weights: Sequence[Path]) -> str:
    """One SHA-256, in hex, over the weight files' content; raises ModelError where a file is not the one that SHA256SUMS beside it records."""
    total = hashlib.sha256()
    for path in weights:
        found, recorded = file_sha256(path), _recorded(path)
        if recorded is not None and found != recorded:
            raise ModelError(f"{path} is not the file that was recorded in {SUMS} (SHA-256 {found[:12]}..., recorded {recorded[:12]}...); remove {path.parent}")
        total.update(bytes.fromhex(found))
    return total.hexdigest()


def _recorded(path: Path) -> str | None:
    sums = path.parent / SUMS
    if not sums.is_file():
        return None
    lines = (line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines() if line.strip())
    return {name.lstrip("*"): digest for digest, name in lines}.get(path.name)


@contextmanager
def quiet_transformers() -> Generator[None]:
    """Silence the loader's bars and advice: the caller has its own progress lines."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()
