"""Activations of a language model on plain text, for benchmarks: `python -m saebias.vlm.text_rows --help`.

The text is Python's own documentation, which is on every machine that runs this program: the topics of `help()` and the docstrings of the standard library,
one document a topic or module. A tenth of the documents, chosen by name, is for validation only.
Shapes: N rows, P pieces, T positions of a piece, D model width.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.vlm.hooks import capture
from saebias.vlm.loading import LoadedModel, from_parts

PIECE = 256
SKIPPED = 4
"""First positions of a piece that are left out: a model without a start token puts activations hundreds of times the usual there."""
SHORTEST = 2000
"""Modules with fewer characters of docstrings are left out."""
PIECES_AT_ONCE = 8


def documents() -> dict[str, str]:
    """Name -> text of Python's documentation topics and of the docstrings of each standard module."""
    from pydoc_data.topics import topics

    found = {f"topic {name}": text for name, text in sorted(topics.items())}
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if {"test", "tests", "site-packages", "idlelib", "lib2to3", "pydoc_data", "turtledemo"} & set(parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # templates that are no Python yet
            continue
        nodes = (node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)))
        text = "\n\n".join(filter(None, map(ast.get_docstring, nodes)))
        if len(text) > SHORTEST:
            found["/".join(parts)] = text
    return found


def is_for_validation(name: str) -> bool:
    """Whether the document of that name is among the tenth that nothing is trained on."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0


def text_pieces(tokenizer: Any, texts: list[str], *, seed: int) -> torch.Tensor:
    """Token ids [P, T] of pieces that each lie within one document, in a random order; what is left of a document after whole pieces is dropped."""
    pieces = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        pieces += [ids[start : start + PIECE] for start in range(0, len(ids) - PIECE + 1, PIECE)]
    return torch.tensor(pieces)[torch.randperm(len(pieces), generator=torch.Generator().manual_seed(seed))]


@torch.no_grad()
def text_activations(loaded: LoadedModel, ids_PT: torch.Tensor, hook: HookPoint, n_rows: int) -> np.ndarray:
    """The first `n_rows` activations [N, D] float16 of the pieces, linear layers in bfloat16; raises InputError when the text is too short for so many."""
    needed = -(-n_rows // (PIECE - SKIPPED))
    if len(ids_PT) < needed:
        raise InputError(f"{n_rows} rows need {needed} pieces of text, there are {len(ids_PT)}; ask for fewer rows")
    found = []
    for some_PT in ids_PT[:needed].split(PIECES_AT_ONCE):
        with torch.autocast("cpu", torch.bfloat16), capture(loaded.adapter, [hook], stop_early=True) as seen:
            loaded.model(some_PT, use_cache=False)
        found.append(seen[hook][:, SKIPPED:].flatten(0, 1).half())
    return torch.cat(found)[:n_rows].numpy()


def main() -> None:
    """Write train.npy and validation.npy of one layer of a GGUF model."""
    parser = argparse.ArgumentParser(prog="python -m saebias.vlm.text_rows", description="Activations of a GGUF model on Python's documentation.")
    parser.add_argument("gguf", type=Path, help="the model file")
    parser.add_argument("out", type=Path, help="folder for train.npy and validation.npy")
    parser.add_argument("--layer", type=int, default=15)
    parser.add_argument("--train-rows", type=int, default=204_800)
    parser.add_argument("--validation-rows", type=int, default=16_384)
    arguments = parser.parse_args()
    place = {"pretrained_model_name_or_path": str(arguments.gguf.parent), "gguf_file": arguments.gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    loaded = from_parts(AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32), tokenizer, name=arguments.gguf.stem)
    texts = documents()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for part, n_rows in (("validation", arguments.validation_rows), ("train", arguments.train_rows)):
        chosen = [text for name, text in texts.items() if is_for_validation(name) == (part == "validation")]
        x_ND = text_activations(loaded, text_pieces(tokenizer, chosen, seed=20_261_122), HookPoint(arguments.layer, "resid_post"), n_rows)
        unfinished = arguments.out / f".{part}.npy"
        np.save(unfinished, x_ND)
        unfinished.replace(arguments.out / f"{part}.npy")


if __name__ == "__main__":
    main()
