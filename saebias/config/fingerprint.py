"""A canonical digest of the things that decide a number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

# Above this size a file is known by name, size and time of change: hashing 8 GB of weights at every start would take a minute.
_HASHED_WHOLE_BYTES = 256 * 2**20


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def digest(*parts: Any, length: int = 12) -> str:
    """The first `length` hex digits of the SHA-256 of the parts' canonical JSON."""
    return hashlib.sha256("\x1f".join(canonical_json(part) for part in parts).encode()).hexdigest()[:length]


def content_digest(paths: Iterable[Path]) -> str:
    """A digest of the files' content (folders: every file in them), large files by size and time of change."""
    lines = []
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            stat = file.stat()
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            if stat.st_size > _HASHED_WHOLE_BYTES:
                lines.append(f"{name}:{stat.st_size}:{stat.st_mtime_ns}")
            else:
                with file.open("rb") as stream:
                    lines.append(f"{name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
    return digest(lines)
