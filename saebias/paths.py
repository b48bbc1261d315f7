"""Where things lie: the SQL files and the configurations that come with the program, and the artifacts it makes."""

from __future__ import annotations

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
