"""Copies of a picture come into one cluster, different pictures do not."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saebias.corpus.images import check_images
from saebias.corpus.near_duplicates import cluster_by_hash, near_duplicate_clusters
from saebias.errors import InputError


@pytest.fixture
def copies(picture, tmp_path):
    """Six pictures, and of each a smaller, a compressed, and a darker copy: path -> which picture it is of."""
    of = {}
    for seed in range(6):
        original = picture(tmp_path / f"{seed}.png", seed=seed, size=(240, 160))
        of[original] = seed
        with Image.open(original) as image:
            for name, copy in (("small.png", image.resize((120, 80))), ("low.jpg", image), ("dark.webp", image.point(lambda value: int(value * 0.8)))):
                copy.save(tmp_path / f"{seed}-{name}", quality=50)
                of[tmp_path / f"{seed}-{name}"] = seed
    return of


def test_copies_are_one_cluster_and_different_pictures_are_not(copies):
    checks = check_images(list(copies), content_hash=True)
    clusters = near_duplicate_clusters(checks)
    names = [clusters[str(check.content_hash)] for check in checks]
    assert len(set(names)) == 6
    for one, other in combinations(zip(copies.values(), names, strict=True), 2):
        assert (one[0] == other[0]) == (one[1] == other[1])


def test_clusters_do_not_depend_on_the_order(copies):
    checks = check_images(list(copies), content_hash=True)
    shuffled = random.Random(0).sample(checks, len(checks))
    assert near_duplicate_clusters(checks) == near_duplicate_clusters(shuffled)


def test_a_cluster_is_named_after_its_smallest_image(copies):
    clusters = near_duplicate_clusters(check_images(list(copies), content_hash=True))
    for name in set(clusters.values()):
        assert name == min(digest for digest, cluster in clusters.items() if cluster == name)[:16]


def test_bad_pictures_have_no_cluster_and_missing_hashes_are_refused(picture, tmp_path):
    paths = [picture(tmp_path / "a.png"), tmp_path / "gone.png"]
    assert len(near_duplicate_clusters(check_images(paths, content_hash=True))) == 1
    # Its header is sound, its pixels are not: that shows where they are decoded alone.
    broken = bytearray(paths[0].read_bytes())
    middle = broken.index(b"IDAT") + 12
    broken[middle : middle + 20] = bytes(20)
    (tmp_path / "broken.png").write_bytes(bytes(broken))
    checks = check_images([*paths, tmp_path / "broken.png"], content_hash=True)
    assert checks[2].ok and set(near_duplicate_clusters(checks)) == {checks[0].content_hash}
    with pytest.raises(InputError, match="has no content hash"):
        near_duplicate_clusters(check_images(paths))
    assert near_duplicate_clusters([]) == {}


@settings(deadline=None)
@given(st.lists(st.binary(min_size=8, max_size=8), max_size=30, unique=True), st.integers(0, 40), st.integers(0, 1000))
def test_linking_by_bands_finds_every_close_pair(hashes, max_distance, seed):
    rng = random.Random(seed)
    # Random hashes are about 32 bits apart: neighbours at every distance are made from them.
    near = [bytes(byte ^ (1 << rng.randrange(8) if rng.random() < 0.5 else 0) for byte in bits) for bits in hashes]
    hash_of = {f"{index:016d}": bits for index, bits in enumerate(hashes + near)}
    clusters = cluster_by_hash(hash_of, max_distance=max_distance)
    bits = {name: np.unpackbits(np.frombuffer(value, dtype=np.uint8)) for name, value in hash_of.items()}
    # Clusters by brute force: spread the smallest name until nothing changes.
    names = dict(zip(hash_of, hash_of, strict=True))
    changed = True
    while changed:
        changed = False
        for one, other in combinations(hash_of, 2):
            if (bits[one] != bits[other]).sum() <= max_distance and names[one] != names[other]:
                names[one] = names[other] = min(names[one], names[other])
                changed = True
    assert clusters == names
