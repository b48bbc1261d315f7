"""Checking, hashing and decoding the picture files that a corpus names, many at a time."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from saebias.corpus.image_headers import HEAD_BYTES, BadHeader, Header, read_header
from saebias.report import Reporter, SilentReporter

MAX_PIXELS = 178_956_970
"""Larger pictures are set aside: Pillow's own limit against decompression bombs."""

UNREADABLE = (OSError, SyntaxError, ValueError, IndexError, KeyError, EOFError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow's plugins raise on damaged data: each format its own (AVIF and DDS kinds of RuntimeError, TIFF struct.error)."""

# One task of many files: handing single files to a pool costs more than reading their headers.
CHUNK = 128
BLOCK_BYTES = 1 << 20

Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageCheck:
    """What is known of one picture file; `reason` says why it cannot be used when `ok` is False."""

    path: str
    ok: bool
    reason: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    n_bytes: int | None = None
    content_hash: str | None = None
    """SHA-256 of the file's bytes in hex, when it was asked for."""


def check_images(
    paths: Sequence[str | Path],
    *,
    full_decode: bool = False,
    content_hash: bool = False,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> list[ImageCheck]:
    """One check per path, in the order of `paths`: exists, is a regular file, has a sound header and does not end early.

    `full_decode` also decodes every pixel; `content_hash` also reads the whole file for its SHA-256. A path named twice is read once.
    Never raises for a bad file. Without `full_decode` only damage in the header and a missing end are found.
    """
    texts = [str(path) for path in paths]
    unique = list(dict.fromkeys(texts))
    check = partial(_check_image, full_decode=full_decode, content_hash=content_hash)
    found = dict(zip(unique, in_parallel(check, unique, "images checked", workers=workers, reporter=reporter), strict=True))
    return [found[text] for text in texts]


def hash_images(checks: Sequence[ImageCheck], *, workers: int | None = None, reporter: Reporter | None = None) -> list[ImageCheck]:
    """The same checks with `content_hash` filled where `ok`; a file that has become unreadable turns not ok, with its reason."""
    return in_parallel(_with_hash, list(checks), "images hashed", workers=workers, reporter=reporter)


def in_parallel(
    work: Callable[[str], Result] | Callable[[ImageCheck], Result],
    items: Sequence,
    label: str,
    *,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> list[Result]:
    """`work` of every item, in order, by a pool of threads (default: one per usable core; more only helps on slow network disks)."""
    workers = workers or len(os.sched_getaffinity(0))
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    results: list[Result] = []
    with (reporter or SilentReporter()).task(label, total=len(items), unit="images") as task, ThreadPoolExecutor(workers) as pool:
        for part in pool.map(lambda chunk: [work(item) for item in chunk], chunks):
            results += part
            task.advance(len(part))
    return results


def _check_image(path: str, *, full_decode: bool, content_hash: bool) -> ImageCheck:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return ImageCheck(path, ok=False, reason="no such file")
    except (OSError, ValueError) as error:
        return ImageCheck(path, ok=False, reason=_os_reason(error))
    try:
        return _check_open_image(descriptor, path, full_decode=full_decode, content_hash=content_hash)
    except OSError as error:
        return ImageCheck(path, ok=False, reason=_os_reason(error))
    finally:
        os.close(descriptor)


def _check_open_image(descriptor: int, path: str, *, full_decode: bool, content_hash: bool) -> ImageCheck:
    head = os.read(descriptor, HEAD_BYTES)
    # A short first read is the whole file: its size needs no further call. Pipes were opened without blocking and give nothing.
    n_bytes = len(head) if len(head) < HEAD_BYTES else os.fstat(descriptor).st_size
    failed = partial(ImageCheck, path, ok=False, n_bytes=n_bytes)
    if not head:
        return failed(reason="empty file")

    def read_at(offset: int, n: int) -> bytes:
        return head[offset : offset + n] if offset + n <= len(head) or len(head) == n_bytes else os.pread(descriptor, n, offset)

    try:
        header = read_header(head, n_bytes, read_at) or _pillow_header(path)
    except BadHeader as error:
        return failed(reason=f"corrupt: {error}")
    if header is None:
        return failed(reason=f"not a picture (begins with {head[:8]!r})")
    if header.width < 1 or header.height < 1:
        return failed(reason=f"corrupt: {header.width} x {header.height} pixels")
    if header.width * header.height > MAX_PIXELS:
        return failed(reason=f"too large: {header.width} x {header.height} pixels; at most {MAX_PIXELS} in all")
    if full_decode or not header.whole:
        reason = decode_failure(path)
        if reason is not None:
            return failed(reason=reason)
    digest = None
    if content_hash:
        digest = sha256(head).hexdigest() if len(head) == n_bytes else _sha256(descriptor)
    return ImageCheck(path, True, None, header.width, header.height, header.format, n_bytes, digest)


def _pillow_header(path: str) -> Header | None:
    """What Pillow reads of a kind of file that we do not parse ourselves; None when it knows none either."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            return Header(image.format or "unknown", image.width, image.height, whole=True)
    except UnidentifiedImageError:
        return None
    except Image.DecompressionBombError:
        raise BadHeader(f"more than {2 * MAX_PIXELS} pixels") from None
    except UNREADABLE as error:
        raise BadHeader(str(error)) from None


def decode_failure(path: str) -> str | None:
    """Why the pixels of a picture cannot be decoded, in words; None when they can."""
    try:
        with Image.open(path) as image:
            image.load()
    except UnidentifiedImageError:
        return "corrupt: Pillow cannot identify it"
    except UNREADABLE as error:
        return f"corrupt: {error}"
    return None


def _with_hash(check: ImageCheck) -> ImageCheck:
    if not check.ok:
        return check
    try:
        descriptor = os.open(check.path, os.O_RDONLY)
    except OSError as error:
        return replace(check, ok=False, reason=_os_reason(error))
    try:
        return replace(check, content_hash=_sha256(descriptor))
    except OSError as error:
        return replace(check, ok=False, reason=_os_reason(error))
    finally:
        os.close(descriptor)


def _sha256(descriptor: int) -> str:
    digest = sha256()
    offset = 0
    while block := os.pread(descriptor, BLOCK_BYTES, offset):
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()


def _os_reason(error: OSError | ValueError) -> str:
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
