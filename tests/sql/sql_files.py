"""How a view, query or check file is read: its help, its parameters with defaults, its statement."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SQL = Path(__file__).resolve().parents[2] / "sql"


@dataclass(frozen=True)
class SqlFile:
    """One file: name, help sentence, parameters with their defaults (None means all), text."""

    name: str
    help: str
    defaults: dict[str, str | None]
    text: str


def read_sql(path: Path) -> SqlFile:
    """The file at `path`, read by the rules that sql files keep."""
    text = path.read_text(encoding="utf-8")
    first, second = text.splitlines()[:2]
    defaults: dict[str, str | None] = {}
    if second.startswith("-- params:"):
        for part in second.removeprefix("-- params:").split(","):
            name, _, value = part.strip().partition("=")
            defaults[name] = value or None
    return SqlFile(path.stem, first.removeprefix("-- "), defaults, text)


def sql_files(folder: str) -> list[SqlFile]:
    """All files of `sql/<folder>/`, by name."""
    return [read_sql(path) for path in sorted((SQL / folder).glob("*.sql"))]


def used_parameters(text: str) -> set[str]:
    """The parameter names that occur in a statement."""
    return set(re.findall(r"\$([a-z_]+)", text))
