"""A digest of the bytes of many files (a user's pictures), each read once: what was read is remembered by path, size and times of change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from saebias.config.fingerprint import digest
from saebias.errors import StoreError
from saebias.store.files import read_json_object, write_text

MEMORY = "contents.json"
_CHUNK = 256
_READERS = 8
"""Hashing leaves the interpreter, and a disk answers several readers at once."""


def contents_digest(files: Iterable[Path], memory_folder: Path) -> str:
    """A digest of the files' paths and bytes; a file that is missing or cannot be read counts as that.

    Digests are remembered in `memory_folder`, where that exists, by path, size, times of change and of status change, and file number: a copied file
    can carry another's time of change, but not its time of status change.
    """
    remembered = read_json_object(memory_folder / MEMORY) or {}
    paths = sorted(set(files))
    marks = {path: _mark(path) for path in paths}
    unread = [path for path in paths if marks[path] is not None and remembered.get(str(path), [None])[0] != marks[path]]
    with ThreadPoolExecutor(_READERS) as readers:
        fresh = dict(zip(unread, readers.map(_hash, unread, chunksize=_CHUNK), strict=True))
    # What changed while it was read is read again next time.
    kept = {str(path): [marks[path], found] for path, found in fresh.items() if _mark(path) == marks[path]}
    if kept and memory_folder.is_dir():
        # Without a memory the answer is the same, only later.
        with suppress(StoreError):
            write_text(memory_folder / MEMORY, json.dumps({**remembered, **kept}))
    known = {str(path): value for path, value in fresh.items()}
    return digest([(str(path), "missing" if marks[path] is None else known.get(str(path)) or remembered[str(path)][1]) for path in paths])


def _mark(path: Path) -> str | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        # A name that no file can have is that of a missing file too.
        return None
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {os.strerror(error.errno or 0)}"
