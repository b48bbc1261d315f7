"""Where things lie: the SQL files and the configurations that come with the program, and the artifacts it makes."""

from __future__ import annotations

import os
from pathlib import Path

from saebias.errors import StoreError

_PACKAGE = Path(__file__).resolve().parent


def _shipped_folder(name: str) -> Path:
    # In a checkout the folder stands beside the package; in a wheel it is mapped into it (see setup.py).
    for folder in (_PACKAGE.parent / name, _PACKAGE / f"_{name}"):
        if (folder / ("schema" if name == "sql" else "demo.yaml")).exists():
            return folder
    raise StoreError(f"the folder {name}/ that belongs to saebias is missing beside {_PACKAGE}; install saebias again")


def sql_folder() -> Path:
    """The folder with schema/, views/, queries/ and checks/."""
    return _shipped_folder("sql")


def configs_folder() -> Path:
    """The folder with the configurations that come with the program."""
    return _shipped_folder("configs")


def cache_folder() -> Path:
    """Where things lie that can be made again at any time: `$SAEBIAS_CACHE`, or `saebias` in the user's cache folder."""
    given = os.environ.get("SAEBIAS_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "saebias"
