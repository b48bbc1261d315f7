"""How fast picture headers are checked, beside one `PIL.Image.open` after another, in one run: `python -m saebias.corpus.bench_images [FOLDER]`."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from saebias.corpus.images import check_images, hash_images


def write_pictures(folder: Path, n: int, *, seed: int) -> list[Path]:
    """`n` small pictures in `folder`, PNG, JPEG and WebP by turns, of 64 to 256 pixels a side."""
    rng = np.random.default_rng(seed)
    paths = []
    for index in range(n):
        width, height = rng.integers(64, 257, size=2)
        pixels = rng.integers(0, 256, size=(height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        suffix = ("png", "jpg", "webp")[index % 3]
        path = folder / f"{index:06d}.{suffix}"
        Image.fromarray(pixels).resize((int(width), int(height))).save(path)
        paths.append(path)
    return paths


def files_per_second(work: Callable[[], object], n: int, repeats: int) -> tuple[float, float]:
    """Files per second by the clock and per second of processor time, the best of `repeats` runs: the others show what else the machine was doing."""
    by_clock, by_processor = [], []
    for _ in range(repeats):
        clock, processor = time.perf_counter(), time.process_time()
        work()
        by_clock.append(time.perf_counter() - clock)
        by_processor.append(time.process_time() - processor)
    return n / min(by_clock), n / min(by_processor)


def open_one_by_one(paths: list[Path]) -> list[tuple[int, int]]:
    """The obvious loop that the check is measured against; it reads sizes and nothing else."""
    sizes = []
    for path in paths:
        with Image.open(path) as image:
            sizes.append(image.size)
    return sizes


def main() -> None:
    """Print files/s of each way and the ratio to the obvious loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures (default: 3,000 made ones)")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = sorted(path for path in arguments.folder.rglob("*") if path.is_file()) if arguments.folder else write_pictures(Path(temporary), 3000, seed=0)
        # Pictures alone: the obvious loop would stop at the first other file.
        paths = [path for path, check in zip(found, check_images(found), strict=True) if check.ok]
        _print_rates(paths, arguments.workers, arguments.repeats)


def _print_rates(paths: list[Path], workers: int | None, repeats: int) -> None:
    checks = check_images(paths)
    ways: dict[str, Callable[[], object]] = {
        "PIL.Image.open, one by one": lambda: open_one_by_one(paths),
        "header check": lambda: check_images(paths, workers=workers),
        "content hash": lambda: hash_images(checks, workers=workers),
        "header check and content hash": lambda: check_images(paths, content_hash=True, workers=workers),
        "full decode": lambda: check_images(paths, full_decode=True, workers=workers),
    }
    naive = 0.0
    print(f"{len(paths)} pictures{'':20s} files/s  per processor second   ratio of the latter")
    for name, work in ways.items():
        by_clock, by_processor = files_per_second(work, len(paths), repeats)
        naive = naive or by_processor
        print(f"{name:30s} {by_clock:12,.0f} {by_processor:21,.0f}   x{by_processor / naive:.2f}")


if __name__ == "__main__":
    main()
