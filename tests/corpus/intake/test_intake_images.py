"""A picture file is known from its first kilobyte as Pillow knows it, and a bad one is told apart without raising."""

from __future__ import annotations

import io
import os
import random
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saebias.corpus.bench_images import open_one_by_one, write_pictures
from saebias.corpus.image_headers import HEAD_BYTES, BadHeader, read_header
from saebias.corpus.images import check_images, hash_images

SAVED = [
    ("a.png", "RGB", {}),
    ("a.png", "P", {}),
    ("a.png", "RGBA", {"compress_level": 0}),
    ("a.jpg", "RGB", {}),
    ("a.jpg", "L", {"progressive": True}),
    ("a.jpg", "RGB", {"exif": b"Exif\0\0" + b"x" * 60_000}),
    ("a.jpg", "RGB", {"icc_profile": b"p" * 100_000}),
    ("a.webp", "RGB", {}),
    ("a.webp", "RGB", {"lossless": True}),
    ("a.webp", "RGBA", {"quality": 40}),
    ("a.webp", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
    ("a.gif", "P", {}),
    ("a.bmp", "RGB", {}),
    ("a.tiff", "RGB", {}),
]


def only(path, **options):
    (check,) = check_images([path], **options)
    return check


@pytest.mark.parametrize(("name", "mode", "options"), SAVED)
@pytest.mark.parametrize("size", [(1, 1), (300, 200), (17, 601)])
def test_a_header_says_what_pillow_says(picture, tmp_path, name, mode, options, size):
    path = picture(tmp_path / name, mode=mode, size=size, **options)
    check = only(path)
    with Image.open(path) as image:
        assert (check.ok, check.format, check.width, check.height) == (True, image.format, *image.size)
    assert check.n_bytes == path.stat().st_size
    assert check.reason is None


def test_a_jpeg_with_its_tables_before_its_frame_is_read(picture, tmp_path):
    path = picture(tmp_path / "a.jpg", size=(300, 200))
    data = path.read_bytes()
    frame, tables = data.index(b"\xff\xc0"), data.index(b"\xff\xc4")
    scan = data.index(b"\xff\xda")
    assert frame < tables < scan
    path.write_bytes(data[:frame] + data[tables:scan] + data[frame:tables] + data[scan:])
    check = only(path, full_decode=True)
    assert (check.ok, check.width, check.height) == (True, 300, 200)


def test_a_bitmap_from_the_top_has_a_positive_height(picture, tmp_path):
    path = picture(tmp_path / "a.bmp", size=(5, 7))
    data = bytearray(path.read_bytes())
    data[22:26] = (-7).to_bytes(4, "little", signed=True)
    path.write_bytes(data)
    assert (only(path).width, only(path).height) == (5, 7)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_a_file_that_ends_early_is_found_by_its_header_check(picture, tmp_path, name, share):
    path = picture(tmp_path / name, mode="P" if name == "a.gif" else "RGB", size=(400, 300))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    check = only(path)
    assert not check.ok
    assert check.reason is not None
    assert check.reason.startswith("corrupt: ")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif"])
def test_bytes_after_the_end_of_a_picture_do_no_harm(picture, tmp_path, name):
    path = picture(tmp_path / name, mode="P" if name == "a.gif" else "RGB")
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    assert only(path).ok


def test_a_cut_inside_the_header_is_found(picture, tmp_path):
    for name in ("a.png", "a.jpg", "a.webp", "a.gif", "a.bmp"):
        data = picture(tmp_path / name, mode="P" if name == "a.gif" else "RGB").read_bytes()
        for n_bytes in (3, 11, 20, 29):
            (tmp_path / name).write_bytes(data[:n_bytes])
            assert not only(tmp_path / name).ok


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty file"), (b"<html>not found</html>", "not a picture"), (b"\0" * 10_000, "not a picture")])
def test_what_is_no_picture_is_told(tmp_path, content, reason):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert reason in (only(path).reason or "")


def test_what_cannot_be_opened_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    reasons = [check.reason for check in check_images([tmp_path / "gone.png", tmp_path, tmp_path / "pipe.png", tmp_path / "loop.png", "a\0b.png"])]
    assert reasons[:3] == ["no such file", "a folder, not a file", "empty file"]
    assert all(reason is not None and reason.startswith("cannot be read") for reason in reasons[3:])


def test_a_png_header_that_fails_its_checksum_is_found(picture, tmp_path):
    path = picture(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[17] ^= 1
    path.write_bytes(data)
    assert only(path).reason == "corrupt: PNG header fails its checksum"


def test_damaged_pixels_are_found_by_decoding_alone(picture, tmp_path):
    path = picture(tmp_path / "a.png", size=(300, 300))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    assert only(path).ok
    assert not only(path, full_decode=True).ok


def test_a_decompression_bomb_is_told_and_not_decoded(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(b"GIF89a" + (60_000).to_bytes(2, "little") * 2 + b"\0\0\0;")
    assert "too large: 60000 x 60000" in (only(path, full_decode=True).reason or "")


def test_checks_come_in_the_order_asked_for(picture, tmp_path):
    paths = [picture(tmp_path / f"{index}.png", size=(index + 1, 3)) for index in range(300)]
    random.Random(1).shuffle(paths)
    asked = paths + paths[:10] + [tmp_path / "gone.png"]
    checks = check_images(asked, workers=3)
    assert [check.path for check in checks] == [str(path) for path in asked]
    assert [check.width for check in checks[:300]] == [int(path.stem) + 1 for path in paths]


def test_hash_is_that_of_the_bytes_whichever_way_it_is_asked_for(picture, tmp_path):
    paths = [picture(tmp_path / "small.png"), picture(tmp_path / "large.bmp", size=(900, 900)), tmp_path / "gone.png"]
    together = check_images(paths, content_hash=True)
    assert together == hash_images(check_images(paths))
    assert [check.content_hash for check in together[:2]] == [sha256(path.read_bytes()).hexdigest() for path in paths[:2]]
    assert together[2].content_hash is None


def test_a_file_that_vanishes_before_hashing_is_told(picture, tmp_path):
    checks = check_images([picture(tmp_path / "a.png")])
    (tmp_path / "a.png").unlink()
    assert [(check.ok, check.content_hash) for check in hash_images(checks)] == [(False, None)]


HEADS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBP", b"RIFF\x20\0\0\0WEBPVP8X", b"GIF89a", b"BM"]


@settings(deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=HEAD_BYTES))
def test_no_bytes_make_the_header_reader_fail_in_another_way(start, rest):
    data = start + rest
    try:
        header = read_header(data[:HEAD_BYTES], len(data), lambda offset, n: data[offset : offset + n])
    except BadHeader:
        return
    assert header is None or (header.width >= 0 and header.height >= 0)


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP"]))
def test_any_size_is_read_back(width, height, kind):
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), dtype=np.uint8)).save(file, kind)
    data = file.getvalue()
    header = read_header(data[:HEAD_BYTES], len(data), lambda offset, n: data[offset : offset + n])
    assert header is not None
    assert (header.format, header.width, header.height, header.whole) == (kind, width, height, True)


def test_headers_are_checked_faster_than_pillow_opens_them(tmp_path):
    paths = write_pictures(tmp_path, 300, seed=0)
    assert all(check.ok for check in check_images(paths))

    def seconds(work) -> float:
        start = time.process_time()
        work(paths)
        return time.process_time() - start

    # Processor time and the best of five: other work on the machine does not count.
    checking = min(seconds(check_images) for _ in range(5))
    opening = min(seconds(open_one_by_one) for _ in range(5))
    assert checking < opening
    assert len(paths) / checking >= 7200


def test_bench_writes_pictures_that_are_sound(tmp_path):
    assert {Path(check.path).suffix for check in check_images(write_pictures(tmp_path, 6, seed=1), full_decode=True) if check.ok} == {".png", ".jpg", ".webp"}
