"""How fast extraction is beside the obvious script and beside nnsight's hooks: ratios of one run, medians of interleaved repeats.

    python -m saebias.stages.bench_extract [-c demo] [--set KEY=VALUE]... [--samples 200] [--repeats 3] [--peers PYTHON] [--memory] [--workers]

Times are CPU seconds of the process with all its threads, so that other load on the machine does not change a ratio; `--workers` measures by the clock,
which means something on a machine with two free cores alone; loading the model, once a worker, weighs the less the more `--samples` there are.
`--no-speed` leaves out the first part, which compares with the obvious script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saebias.config.load import load_config
from saebias.config.schema import Config
from saebias.report import SilentReporter
from saebias.stages.extract import Job


def main() -> None:
    """Print the ratios, one line each."""
    parser = argparse.ArgumentParser(prog="python -m saebias.stages.bench_extract")
    parser.add_argument("-c", "--config", type=Path, default=Path("demo"))
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-speed", action="store_true", help="leave out the comparison with the obvious script")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has nnsight beside this program's requirements")
    parser.add_argument("--memory", action="store_true", help="also compare the peak memory of 2,000 and 20,000 samples (minutes)")
    parser.add_argument("--workers", action="store_true", help="also compare two workers with one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-extract-") as folder:
        overrides = [f"runtime.artifacts={folder}", "runtime.threads=1", f"data.n={given.samples}", *given.set]
        cfg = load_config(given.config, overrides)
        if not given.no_speed:
            job = prepared_job(cfg)
            print(f"{cfg.model.name}, {given.samples} samples, {len(job.hooks)} hook points, one thread; CPU seconds, medians of {given.repeats}")
            print_speed(job, Path(folder), given.repeats)
        if given.peers:
            print_peers(cfg, given.peers, given.repeats)
    if given.memory:
        print_memory(given.config, given.set)
    if given.workers:
        print_workers(given.config, given.set, given.samples, given.repeats)


def prepared_job(cfg: Config) -> Job:
    """The extraction of the configuration over its own corpus, which is prepared if it is not."""
    from saebias.pipeline.runner import run_stages
    from saebias.stages.extract import open_job
    from saebias.stages.extract_dry_run import extract_context
    from saebias.stages.registry import STAGES

    run_stages(cfg, STAGES, ["prepare"], SilentReporter())
    return open_job(extract_context(cfg, SilentReporter()))


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all threads together."""
    started = time.process_time()
    work()
    return time.process_time() - started


def medians(repeats: int, **works: Callable[[], object]) -> dict[str, float]:
    """The median CPU seconds of each piece of work, interleaved; a first round that pays for what happens once is not counted."""
    rounds = [{name: cpu_seconds(work) for name, work in works.items()} for _ in range(repeats + 1)]
    return {name: statistics.median(one[name] for one in rounds[1:]) for name in works}


def print_speed(job: Job, folder: Path, repeats: int) -> None:
    """Ours against the obvious script, writing against not writing, and bytes per vector."""
    sizes: list[int] = []
    rows: list[int] = []

    def to_disk() -> None:
        size, n_rows = extract_all(job, folder / "ours.zarr")
        sizes.append(size)
        rows.append(n_rows)

    found = medians(repeats, obvious=lambda: obvious_script(job, folder / "obvious.safetensors"), ours=to_disk, unwritten=lambda: extract_all(job, None))
    loaded = job.extractor.loaded
    per_second = {name: job.n_samples / seconds for name, seconds in found.items()}
    print(f"obvious script {per_second['obvious']:.1f} samples/s, this program {per_second['ours']:.1f} samples/s: {found['obvious'] / found['ours']:.2f}x")
    print(f"written to disk {found['ours']:.2f} s, the same forward passes unwritten {found['unwritten']:.2f} s: {found['ours'] / found['unwritten']:.3f}x")
    share = sizes[-1] / (rows[-1] * len(job.hooks) * loaded.adapter.d_model * 2)
    print(f"bytes on disk per kept vector: {share:.3f} x bfloat16 x {loaded.adapter.d_model}")


def extract_all(job: Job, path: Path | None) -> tuple[int, int]:
    """All shards, written behind the work like the stage writes them, or not at all; (bytes on disk, rows)."""
    import shutil

    from saebias.stages.extract import WriterThread, fill_shard
    from saebias.store.arrays import create_activations, shard_file, write_shard

    cfg, adapter = job.extractor.cfg.extract, job.extractor.loaded.adapter
    n_rows = 0
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)
        create_activations(path, job.hooks, len(job.shards) * cfg.shard_rows, adapter.d_model, dtype=cfg.dtype, shard_rows=cfg.shard_rows)
    with SilentReporter().task("", 0) as task, WriterThread() as writer:
        for number in range(len(job.shards)):
            filled = fill_shard(job, number, task, number + 1 if number + 1 < len(job.shards) else None)
            n_rows += filled.token_rows.num_rows
            if path is not None:
                writer.put(lambda number=number, filled=filled: write_shard(path, number, filled.stored_NLD))
    return 0 if path is None else sum(shard_file(path, number).stat().st_size for number in range(len(job.shards))), n_rows


def obvious_script(job: Job, path: Path) -> None:
    """What one writes first: every caption by itself through processor and model, all hidden states asked for, all kept in memory, saved at the end."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    loaded, kept = job.extractor.loaded, {}
    layers = sorted({hook.layer for hook in job.hooks})
    for item in (item for shard in job.shards for item in shard if item.reason is None):
        text = f"{job.words[item.language].rendered} {item.caption}"
        if loaded.processor is None:
            inputs = loaded.tokenizer(text, return_tensors="pt")
        else:
            with Image.open(item.sample.image_path) as image:
                inputs = loaded.processor(images=[[image.convert("RGB")]], text=[text], return_tensors="pt")
        with torch.no_grad():
            states = loaded.model(**inputs.to(loaded.device), output_hidden_states=True).hidden_states
        kept[f"{item.sample.sample_id}-{item.language}"] = torch.stack([states[layer + 1][0] for layer in layers], 1).to(torch.bfloat16)
    save_file(kept, path)


def print_peers(cfg: Config, python: str, repeats: int) -> None:
    """Ours against nnsight's hooks on the same pictures and captions, in the interpreter that has it."""
    asked = {"config": cfg.model_dump(mode="json"), "pictures": 32, "repeats": repeats}
    done = subprocess.run([python, "-m", "saebias.stages.bench_extract_peers"], input=json.dumps(asked), capture_output=True, text=True, check=False)
    print(done.stdout.rstrip() or f"nnsight: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'nothing was said'}")


def _child(arguments: Sequence[str], core: int | None = None) -> subprocess.Popen[bytes]:
    held = [] if core is None else ["taskset", "--cpu-list", str(core)]
    return subprocess.Popen([*held, sys.executable, "-m", "saebias", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _used(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """(CPU seconds, peak bytes) of a child when it has ended well."""
    import os

    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"a child process ended with code {process.returncode}: {process.args}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def _arguments(command: str, config: Path, overrides: Sequence[str]) -> list[str]:
    return [command, "-q", "-c", str(config), *(part for override in overrides for part in ("--set", override))]


def print_memory(config: Path, overrides: Sequence[str]) -> None:
    """Peak memory of extraction from 2,000 and from 20,000 samples."""
    peaks = {}
    for n in (2_000, 20_000):
        with tempfile.TemporaryDirectory(prefix="bench-extract-") as folder:
            ours = ["extract.layers=2", "extract.tokens.image=none", f"runtime.artifacts={folder}", "runtime.threads=1", f"data.n={n}", *overrides]
            _used(_child(_arguments("prepare", config, ours)))
            peaks[n] = _used(_child(_arguments("extract", config, ours)))[1]
    few, many = peaks.values()
    print(f"peak memory {few / 2**20:,.0f} MiB with 2,000 samples, {many / 2**20:,.0f} MiB with 20,000: {many / few:.3f}x")


@dataclass(frozen=True)
class Spent:
    """What an extraction took: by the clock, with the start of the programs (`whole`) and without (`wall`); CPU seconds of the stage, all workers together."""

    whole: float
    wall: float
    cpu: float


def extracted(config: Path, overrides: Sequence[str], artifacts: Path, cores: Sequence[int | None]) -> Spent:
    """What workers that start together take for a prepared corpus, each held to its core (None: to none); an extraction that lies there is made again."""
    shutil.rmtree(artifacts / "extract", ignore_errors=True)
    slots = [["--worker", f"{number}/{len(cores)}"] if len(cores) > 1 else [] for number in range(len(cores))]
    started = time.perf_counter()
    workers = [_child([*_arguments("extract", config, overrides), *slot], core) for slot, core in zip(slots, cores, strict=True)]
    for worker in workers:
        _used(worker)
    whole = time.perf_counter() - started
    (path,) = (artifacts / "extract").glob("*/run.json")
    record = json.loads(path.read_text())
    return Spent(whole, record["seconds"], record["cpu_seconds"])


def print_workers(config: Path, overrides: Sequence[str], samples: int, repeats: int) -> None:
    """Two workers, each of one thread and held to a core, against one, in turns; and against one whose decoding and writing may use the second core too."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("two workers are compared with one where there are two cores; this process may use one alone")
        return
    first, second = cores[:2]
    ways: dict[str, list[int | None]] = {"one": [first], "two": [first, second], "free": [None]}
    rounds: dict[str, list[Spent]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="bench-extract-") as folder:
        # Enough shards that neither worker waits long for the other's last one; the same budget for one and two, whatever memory is free.
        ours = ["extract.shard_rows=4096", "runtime.token_budget=8192", f"runtime.artifacts={folder}", "runtime.threads=1", f"data.n={samples}", *overrides]
        _used(_child(_arguments("prepare", config, ours)))
        for _ in range(repeats):
            for way, cores in ways.items():
                rounds[way].append(extracted(config, ours, Path(folder), cores))
    whole, wall, cpu = ({way: statistics.median(getattr(s, name) for s in found) for way, found in rounds.items()} for name in ("whole", "wall", "cpu"))
    load = f"{os.getloadavg()[0]:.1f} processes at work at the end"
    print(f"{samples} samples, seconds by the clock ({load}): two workers, each on a core of its own, against one on one core, and one on both")
    for name, of in (("starts included", whole), ("starts left out, but for loading the model", wall)):
        print(f"  {of['two']:.1f} against {of['one']:.1f}: {of['one'] / of['two']:.2f}x; against {of['free']:.1f}: {of['free'] / of['two']:.2f}x ({name})")
    print(f"  CPU of a sample: one worker {1000 * cpu['one'] / samples:.1f} ms, two together {1000 * cpu['two'] / samples:.1f} ms")


if __name__ == "__main__":
    main()
