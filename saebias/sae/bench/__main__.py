"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from saebias.errors import InputError, SaebiasError
from saebias.sae.bench.compare import BUDGETS, Entry, Problem, compare
from saebias.sae.bench.environment import cache_folder, peers_python, run_child
from saebias.sae.bench.planted import planted_rows, recovery
from saebias.sae.bench.real import D_MODEL, N_LATENTS, TRAIN_ROWS, K, real_rows
from saebias.sae.bench.rows import Sizes
from saebias.sae.bench.step import SHAPES, time_step
from saebias.sae.bench.trainers import OURS, QUALITY, STEP, SYNTHETIC, Contestant
from saebias.sae.module import SparseAutoencoder
from saebias.sae.quality import sae_quality
from saebias.sae.training import SCALE_ROWS

PLANTED = {"n_rows": 204_800, "d_model": 128, "n_directions": 512, "n_active": 8}
PLANTED_SEED = 7_000_003
"""Seed of the synthetic data; those of the dictionaries are small."""


def main() -> int:
    """Print the table asked for."""
    parser = argparse.ArgumentParser(prog="python -m saebias.sae.bench", description="How fast and how good the training of dictionaries is.")
    parser.add_argument("what", nargs="?", default="step", choices=("step", "quality", "synthetic"), help="time of a step, FVU on a real layer, known features")
    parser.add_argument("--peers", action="store_true", help="step: with the public trainers, installed in an environment of their own")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="step: model width x latents x rows of a batch, such as 256x2048x4096")
    parser.add_argument("--kernels", default="auto", help="step: auto, numba or torch")
    parser.add_argument("--k", type=int, default=K, help="step: active latents a row")
    parser.add_argument("--rounds", type=int, default=3, help="step --peers: times that each trainer is timed, one after the other")
    parser.add_argument("--steps", type=int, default=5, help="step --peers: steps of a round that are timed; one of SAELens at 2560x20480 takes ten seconds")
    parser.add_argument("--no-memory", action="store_true", help="step --peers: leave out the training of each that its memory is read from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="quality, synthetic: seeds of the initial weights")
    parser.add_argument("--budget", nargs="+", choices=BUDGETS, default=BUDGETS, help="quality, synthetic: the same rows, or the processor time ours took")
    parser.add_argument("--only", nargs="+", help="trainers whose name contains one of these words; saebias always takes part")
    parser.add_argument("--threads", type=int, default=1, help="threads of every trainer; waiting threads count as processor time, so 1 compares best")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where the peers' environment and the activations are kept")
    arguments = parser.parse_args()
    try:
        _table(arguments)
    except SaebiasError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _table(arguments: argparse.Namespace) -> None:
    if arguments.what == "quality":
        _quality(arguments)
    elif arguments.what == "synthetic":
        _synthetic(arguments)
    elif arguments.peers:
        for shape in arguments.shapes:
            _peer_steps(shape, arguments)
    else:
        _own_steps(arguments)


def _own_steps(arguments: argparse.Namespace) -> None:
    print(f"{'shape':26} {'kernels':8} {'product ms':>10} {'step ms':>9} {'step/GEMM':>9} {'tokens/cpu-s':>12} {'peak MiB':>9}")
    # A process for each shape: memory once taken never shows as given back.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for shape in arguments.shapes:
            t = pool.apply(time_step, _sizes(shape), {"k": arguments.k, "kernels": arguments.kernels})
            print(
                f"{t.shape:26} {t.kernels:8} {t.product_ms:10.1f} {t.step_ms:9.1f} {t.step_per_product:9.2f} {t.tokens_per_cpu_second:12,.0f} {t.peak_mib:9.0f}"
            )


def _peer_steps(shape: str, arguments: argparse.Namespace) -> None:
    """Trainers take turns, so that a load that comes and goes meets all of them; figures are medians over the rounds."""
    d_model, n_latents, batch_size = _sizes(shape)
    python = peers_python(arguments.cache)
    contestants = _chosen(STEP, arguments.only)
    n_timed = arguments.steps
    # Our loop takes its first rows for mean and scale before the first step.
    steps = -(-SCALE_ROWS // batch_size) + n_timed + 1
    found: dict[str, list[dict[str, float]]] = defaultdict(list)

    def run(contestant: Contestant, n_steps: int, **more: object) -> dict[str, float]:
        sizes = Sizes(d_model, n_latents, arguments.k, batch_size, n_steps)
        task = {"task": "time", "trainer": contestant.name, "library": contestant.library, "settings": contestant.settings, "sizes": asdict(sizes)}
        return run_child(python, task | {"n_timed": n_timed, "threads": arguments.threads, "memory_only": False} | more)

    print(f"\n{shape}, k {arguments.k}, {arguments.threads} thread(s), medians of {arguments.rounds} rounds x {n_timed} steps")
    print(f"{'trainer':24} {'product ms':>10} {'step ms':>9} {'step/GEMM':>9} {'times ours':>10} {'peak MiB':>9}", flush=True)
    for number, contestant in itertools.product(range(1, arguments.rounds + 1), contestants):
        is_ours = contestant.library == "saebias"
        found[contestant.name].append(run(contestant, steps if is_ours else n_timed + 4))
        if number < arguments.rounds:
            continue
        product, step, ratio = (statistics.median(one[key] for one in found[contestant.name]) for key in ("product_ms", "step_ms", "step_per_product"))
        ours = statistics.median(one["step_per_product"] for one in found[OURS.name])
        peak = "-" if arguments.no_memory else f"{run(contestant, steps if is_ours else 4, memory_only=True)['peak_mib']:.0f}"
        print(f"{contestant.name:24} {product:10.1f} {step:9.1f} {ratio:9.2f} {ratio / ours:10.2f} {peak:>9}", flush=True)


def _quality(arguments: argparse.Namespace) -> None:
    python = peers_python(arguments.cache)
    train, validation = real_rows(arguments.cache, python)
    x_ND = torch.from_numpy(np.load(validation).astype(np.float32))

    def judge(sae: SparseAutoencoder) -> dict[str, float]:
        measured = sae_quality(sae, x_ND)
        assert measured.fvu is not None
        return {"FVU": measured.fvu, "dead": measured.dead_share, "L0": measured.l0}

    print(f"layer 15 of SmolLM2-135M on Python's documentation: {TRAIN_ROWS:,} rows, {N_LATENTS} latents, k {K}")
    print(f"judged on {len(x_ND):,} rows of other documents")
    _compared(arguments, Problem(train, TRAIN_ROWS, D_MODEL, N_LATENTS, K), QUALITY, judge, python)


def _synthetic(arguments: argparse.Namespace) -> None:
    python = peers_python(arguments.cache)
    planted = planted_rows(**PLANTED, seed=PLANTED_SEED)
    path = arguments.cache / "planted.npy"
    np.save(path, planted.x_ND)

    def judge(sae: SparseAutoencoder) -> dict[str, float]:
        return asdict(recovery(sae.W_dec_FD.detach().numpy(), planted.directions_GD))

    print(", ".join(f"{name} {value:,}" for name, value in PLANTED.items()) + f"; dictionaries of {2 * PLANTED['n_directions']} latents")
    k, d_model = PLANTED["n_active"], PLANTED["d_model"]
    _compared(arguments, Problem(path, PLANTED["n_rows"], d_model, 2 * PLANTED["n_directions"], k), SYNTHETIC, judge, python)


def _compared(
    arguments: argparse.Namespace, problem: Problem, contestants: tuple[Contestant, ...], judge: Callable[[SparseAutoencoder], dict[str, float]], python: Path
) -> None:
    print(f"{'trainer':32} {'budget':10} {'seed':>4} {'rows':>9} {'cpu s':>7}  judged", flush=True)
    compare(
        problem, _chosen(contestants, arguments.only), judge, seeds=arguments.seeds, budgets=arguments.budget, python=python, threads=arguments.threads,
        report=_print_entry,
    )  # fmt: skip


def _print_entry(entry: Entry) -> None:
    judged = "  ".join(f"{name} {value:.4f}" for name, value in entry.judged.items())
    print(f"{entry.name:32} {entry.budget:10} {entry.seed:4} {entry.rows:9,} {entry.cpu_seconds:7.1f}  {judged}", flush=True)


def _chosen(contestants: tuple[Contestant, ...], only: list[str] | None) -> list[Contestant]:
    return [c for c in contestants if not only or c.name == "saebias" or any(word.lower() in c.name.lower() for word in only)]


def _sizes(shape: str) -> tuple[int, int, int]:
    sizes = shape.split("x")
    if len(sizes) != 3 or not all(size.isdigit() for size in sizes):
        raise InputError(f"{shape!r} is no shape; write it like 256x2048x4096")
    d_model, n_latents, batch_size = map(int, sizes)
    return d_model, n_latents, batch_size


if __name__ == "__main__":
    sys.exit(main())
