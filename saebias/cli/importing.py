"""What `saebias train --import DIR --hook HOOK` stands for in the configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from saebias.errors import ConfigError


def import_overrides(folders: Sequence[Path], hooks: Sequence[str]) -> list[str]:
    """The override `train.imports=[...]` of these pairs, none for no pair; raises ConfigError when a folder has no hook point or the other way round."""
    if len(folders) != len(hooks):
        raise ConfigError(f"--import was given {len(folders)} times and --hook {len(hooks)} times; each folder needs its hook point, such as L03.resid_post")
    if not folders:
        return []
    pairs = [{"hook": hook, "folder": str(folder.absolute())} for folder, hook in zip(folders, hooks, strict=True)]
    return [f"train.imports={json.dumps(pairs, ensure_ascii=False)}"]
