"""Width, height and format of a picture from its first kilobyte, without a decoder.

PNG (RFC 2083), JPEG (ITU T.81), WebP (RFC 9649), GIF89a and Windows bitmaps; anything else is left to Pillow.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

HEAD_BYTES = 4096
TAIL_BYTES = 64

ReadAt = Callable[[int, int], bytes]
"""`read_at(offset, n)` gives up to n bytes of the file from `offset`."""


@dataclass(frozen=True)
class Header:
    """What a picture's header says of itself."""

    format: str
    width: int
    height: int
    whole: bool
    """False when the file seems to end too early; some sound files look so, and only decoding settles it."""


class BadHeader(Exception):
    """The file begins like a picture of a known kind and then contradicts itself."""


def read_header(head: bytes, n_bytes: int, read_at: ReadAt) -> Header | None:
    """The header of a file of `n_bytes` bytes that begins with `head`; None for a kind not known here. Raises BadHeader."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(head, n_bytes, read_at)
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(n_bytes, read_at)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head, n_bytes)
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return _gif(head, n_bytes, read_at)
    if head[:2] == b"BM" and len(head) >= 26:
        return _bmp(head, n_bytes)
    return None


def _number(data: bytes, start: int, n: int, order: str) -> int:
    return int.from_bytes(data[start : start + n], "big" if order == ">" else "little")


def _tail(n_bytes: int, read_at: ReadAt) -> bytes:
    return read_at(max(0, n_bytes - TAIL_BYTES), TAIL_BYTES)


def _png(head: bytes, n_bytes: int, read_at: ReadAt) -> Header:
    if head[8:16] != b"\x00\x00\x00\rIHDR" or len(head) < 33:
        raise BadHeader("PNG without a header chunk")
    if zlib.crc32(head[12:29]) != _number(head, 29, 4, ">"):
        raise BadHeader("PNG header fails its checksum")
    return Header("PNG", _number(head, 16, 4, ">"), _number(head, 20, 4, ">"), whole=b"IEND" in _tail(n_bytes, read_at))


# Start-of-frame markers: C0-CF without DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def _jpeg(n_bytes: int, read_at: ReadAt) -> Header:
    position = 2
    while position + 4 <= n_bytes:
        part = read_at(position, 9)
        if len(part) < 4 or part[0] != 0xFF:
            raise BadHeader("JPEG segments do not line up")
        marker = part[1]
        if marker == 0xFF or marker in _ALONE:
            # A fill byte, or a marker without a length.
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            if len(part) < 9:
                break
            whole = b"\xff\xd9" in _tail(n_bytes, read_at)
            return Header("JPEG", _number(part, 7, 2, ">"), _number(part, 5, 2, ">"), whole)
        if marker in (0xD9, 0xDA):
            raise BadHeader("JPEG without a frame header")
        length = _number(part, 2, 2, ">")
        if length < 2:
            raise BadHeader("JPEG segment without a length")
        position += 2 + length
    raise BadHeader("JPEG ends inside its header")


def _webp(head: bytes, n_bytes: int) -> Header:
    whole = _number(head, 4, 4, "<") + 8 <= n_bytes
    kind = head[12:16]
    if len(head) < 30:
        raise BadHeader("WebP ends inside its header")
    if kind == b"VP8X":
        return Header("WEBP", _number(head, 24, 3, "<") + 1, _number(head, 27, 3, "<") + 1, whole)
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = _number(head, 21, 4, "<")
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, whole)
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return Header("WEBP", _number(head, 26, 2, "<") & 0x3FFF, _number(head, 28, 2, "<") & 0x3FFF, whole)
    raise BadHeader("WebP with an unknown first chunk")


def _gif(head: bytes, n_bytes: int, read_at: ReadAt) -> Header:
    if len(head) < 13:
        raise BadHeader("GIF ends inside its header")
    return Header("GIF", _number(head, 6, 2, "<"), _number(head, 8, 2, "<"), whole=b"\x3b" in _tail(n_bytes, read_at))


def _bmp(head: bytes, n_bytes: int) -> Header:
    # The size field counts the whole file; writers that leave it 0 are many.
    whole = _number(head, 2, 4, "<") <= n_bytes
    if _number(head, 14, 4, "<") == 12:
        return Header("BMP", _number(head, 18, 2, "<"), _number(head, 20, 2, "<"), whole)
    height = int.from_bytes(head[22:26], "little", signed=True)
    # A negative height means that rows run from the top.
    return Header("BMP", _number(head, 18, 4, "<"), abs(height), whole)
