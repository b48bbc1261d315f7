"""Groups of pictures that look alike, by a difference hash of their thumbnails.

N pictures, B bits of a hash, W words of 64 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from saebias.corpus.grouping import Groups
from saebias.corpus.images import UNREADABLE, ImageCheck, in_parallel
from saebias.errors import InputError
from saebias.report import Reporter

SIDE = 16
N_BITS = SIDE * SIDE
# In a flat region neighbours differ by compression noise alone, whose sign would be a coin toss.
LEAST_STEP = 2


def difference_hash(path: str) -> bytes:
    """256 bits: half say which cells of a grey thumbnail are darker than their right neighbour, half than the one below. Transparent parts are white.

    Size, brightness and compression leave it nearly unchanged; mirroring and cropping do not (after Krawetz, "Kind of like that", 2013).
    """
    with Image.open(path) as image:
        # JPEG can decode at an eighth of the size, which is all that a thumbnail needs.
        image.draft("L", (SIDE * 8, SIDE * 8))
        if image.mode in ("RGBA", "LA", "P", "PA"):
            rgba = image.convert("RGBA")
            grey = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("L")
        else:
            grey = image.convert("L")
    across = np.asarray(grey.resize((SIDE // 2 + 1, SIDE), Image.Resampling.BOX), dtype=np.int16)
    down = np.asarray(grey.resize((SIDE, SIDE // 2 + 1), Image.Resampling.BOX), dtype=np.int16)
    darker = [np.diff(across, axis=1) > LEAST_STEP, np.diff(down, axis=0) > LEAST_STEP]
    return np.packbits(np.concatenate([part.ravel() for part in darker])).tobytes()


def near_duplicate_clusters(
    checks: Sequence[ImageCheck],
    *,
    max_distance: int = 10,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> dict[str, str]:
    """Content hash -> cluster id (the smallest image id of the cluster) for the sound ones of `checks`, which must carry content hashes.

    Pictures whose difference hashes differ in at most `max_distance` of 256 bits are one cluster, and so are chains of such pictures. The order
    of `checks` does not matter; a new picture that bridges two clusters joins them. A picture whose pixels cannot be decoded is in none.
    Raises InputError where a content hash is missing.
    """
    path_of: dict[str, str] = {}
    for check in checks:
        if check.ok and check.content_hash is None:
            raise InputError(f"{check.path} has no content hash; check images with content_hash=True before grouping near-duplicates")
        if check.ok and check.content_hash is not None:
            path_of.setdefault(check.content_hash, check.path)
    hashes = in_parallel(_hash_if_readable, list(path_of.values()), "near-duplicates sought", workers=workers, reporter=reporter)
    found = {content: bits for content, bits in zip(path_of, hashes, strict=True) if bits is not None}
    return cluster_by_hash(found, max_distance=max_distance)


def _hash_if_readable(path: str) -> bytes | None:
    # Where headers alone were checked, damage further on shows here first; who needs the pixels says so of each sample.
    try:
        return difference_hash(path)
    except UNREADABLE:
        return None


def cluster_by_hash(hash_of: Mapping[str, bytes], *, max_distance: int) -> dict[str, str]:
    """Content hash -> cluster id, by single linkage of difference hashes at Hamming distance <= `max_distance`."""
    alike: dict[bytes, list[str]] = {}
    for name, bits in hash_of.items():
        alike.setdefault(bits, []).append(name)
    distinct = sorted(alike)
    groups: Groups[int] = Groups()
    for index in range(len(distinct)):
        groups.root(index)
    for one, other in _close_pairs(distinct, max_distance):
        groups.join(one, other)
    cluster_of = {}
    for members in groups.members():
        names = [name for index in members for name in alike[distinct[index]]]
        cluster_of.update(dict.fromkeys(names, min(names)[:16]))
    return cluster_of


def _close_pairs(distinct: list[bytes], max_distance: int) -> set[tuple[int, int]]:
    """Pairs of indices within the distance. Two hashes that differ in d bits agree wholly on one of d + 1 bands: only such pairs are compared."""
    if not distinct:
        return set()
    bits_NB = np.unpackbits(np.frombuffer(b"".join(distinct), dtype=np.uint8).reshape(len(distinct), -1), axis=1)
    words_NW = np.frombuffer(b"".join(distinct), dtype=np.uint64).reshape(len(distinct), -1)
    pairs: set[tuple[int, int]] = set()
    for band_NB in np.array_split(bits_NB, max_distance + 1, axis=1):
        keys_NB = np.packbits(band_NB, axis=1)
        order = np.lexsort(keys_NB.T)
        starts = np.flatnonzero(np.r_[True, (keys_NB[order][1:] != keys_NB[order][:-1]).any(axis=1)])
        for bucket in np.split(order, starts[1:]):
            for position, index in enumerate(bucket[:-1]):
                rest = bucket[position + 1 :]
                distance = np.bitwise_count(words_NW[rest] ^ words_NW[index]).sum(axis=1)
                pairs.update((int(index), int(other)) for other in rest[distance <= max_distance])
    return pairs
