"""Writing a file so that it is there wholly or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saebias.errors import StoreError


class ReadOnlyFolder(StoreError):
    """A file or folder of ours cannot be written."""


@contextmanager
def translated_disk_errors(path: Path) -> Generator[None]:
    """Turn a full disk or a missing permission into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"{path}: the disk is full; finished units are intact: free space (or set runtime.artifacts elsewhere) and run the same command again"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise ReadOnlyFolder(f"{path}: cannot be written ({error.strerror}); set runtime.artifacts to a folder you may write") from error
        raise


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is removed when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with translated_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, wholly or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json_object(path: Path, keys: Collection[str] = ()) -> dict[str, Any] | None:
    """The JSON object in a file of ours, or None where there is no file, or one that is torn or lacks one of `keys`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and set(keys) <= set(found) else None


@contextmanager
def alone_at(path: Path) -> Generator[None]:
    """A block that one process, and one thread, at a time is in, by the lock file at `path`; waits for its turn. The lock goes with its holder."""
    with translated_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def update_json_object(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Replace the JSON object at `path` by `change` of it, which is also returned; no process that does the same meanwhile loses what it wrote.

    `change` gets an empty object where there is no file, or one that is torn. An object that comes back as it was is not written.
    """
    with alone_at(path.with_name(f".{path.name}.lock")):
        before = read_json_object(path)
        after = change(before or {})
        if after != before:
            write_text(path, json.dumps(after, indent=1))
    return after


# Ours; what safetensors writes beside its file before it renames it; what Zarr does.
UNFINISHED = ("**/.*.tmp", "**/.tmp??????", "files/**/*.partial")


def sweep_temporary(folder: Path, patterns: Collection[str] = UNFINISHED) -> int:
    """Remove the unfinished files that killed processes left below `folder`, and say how many. For where no process can be writing now."""
    found = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def free_bytes(path: Path) -> int:
    """Free space on the disk that `path` lies on, bytes; `path` need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
