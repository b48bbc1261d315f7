"""Whether the model of a configuration is on this machine, without loading it."""

from __future__ import annotations

from pathlib import Path

from saebias.config.schema import Config
from saebias.stages.model_access import SHIPPED


def absent_model(cfg: Config) -> str | None:
    """Why a stage that loads the model would stop (with the command that helps), or that it would be downloaded; None where it is here.

    Looks at a folder or the hub's cache alone. Models of the package's own are checked where a run is planned.
    """
    name = cfg.model.name
    if name.startswith(SHIPPED):
        return None
    folder = Path(name)
    if folder.is_dir():
        weights = any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir())
        return None if weights and (folder / "config.json").is_file() else f"model folder {name} lacks config.json or weights; save or fetch the model again"
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return f"model folder {name} does not exist; give a folder with config.json and weights, or a hub id"
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json", revision=cfg.model.revision)
    except HFValidationError:
        return f"{name!r} is neither a model folder nor a hub id such as google/gemma-3-4b-it"
    if isinstance(cached, str):
        return None
    if not cfg.model.offline:
        return f"model {name} is not on this machine yet: it will be downloaded"
    command = f"hf download {name}" + (f" --revision {cfg.model.revision}" if cfg.model.revision else "")
    return f"model {name} is not on this machine, and nothing is downloaded while offline; fetch it with `{command}` (or set model.offline=false)"
