"""Where the captioners lie that ship with the package."""

from __future__ import annotations

from pathlib import Path

from saebias.errors import ModelError

NAMES = ("skewed", "null")


def shipped_model(name: str) -> Path:
    """The folder of the packaged captioner `name` ("skewed" or "null"), which the Auto classes of transformers load; raises ModelError when it is not there."""
    folder = Path(__file__).parent / "weights" / name
    if name not in NAMES:
        raise ModelError(f"no packaged captioner is called {name!r}; there are {', '.join(NAMES)}")
    if not (folder / "model.safetensors").is_file():
        raise ModelError(f"captioner {name!r} has no weights in {folder}; run `python -m saebias.captioner train {name} --out {folder.parent}`")
    return folder
