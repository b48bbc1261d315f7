"""Who starts the workers of a run: this program, as processes of this machine, or Ray, as actors of a cluster.

Either way a worker loads one model, takes units by claim files (claims.py), and one that is lost is started again.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol

from saebias import errors
from saebias.errors import ConfigError, StoreError
from saebias.pipeline.claims import Crew
from saebias.pipeline.crews import Outcome, WorkerSlot, take_part, together
from saebias.pipeline.echo import Echo
from saebias.pipeline.logs import ProgressState
from saebias.pipeline.monitor import gpu_use, watching
from saebias.pipeline.performing import Job, Used, header
from saebias.pipeline.stage import Stage
from saebias.report import Reporter, Task
from saebias.vlm.threads import usable_cores

LOSSES = 3
"""A worker that is lost so often is not started again."""
_LOOK_SECONDS = 0.25


class Pool(Protocol):
    """Starts workers and says which have ended."""

    def start(self, number: int) -> None:
        """Start worker `number`."""
        ...

    def ended(self, seconds: float) -> list[tuple[int, Outcome | None]]:
        """Workers that have ended, after at most `seconds`; None: lost (killed, or its machine is gone)."""
        ...

    def close(self) -> None:
        """Stop what still runs."""
        ...


def employ(job: Job, reporter: Reporter, used: Used) -> None:
    """Have runtime.workers workers do the run's units, and note in `used` what they took together.

    Raises the error of a worker when no other could finish the run, StoreError when all were lost again and again.
    """
    count = job.cfg.runtime.workers
    crew = Crew(job.folder, -1, count)
    progress = ProgressState()
    started = time.perf_counter()
    with ExitStack() as stack:
        pool = make_pool(job, count)
        try:
            stack.callback(pool.close)
            stack.enter_context(watching(job.live_path(), header(job, None), progress, crew.planned_units))
            reporter.info(f"{job.stage.name}: {count} workers ({job.cfg.runtime.engine})")
            _oversee(job, pool, count, reporter, crew, stack)
            used.status = "done"
        except BaseException as error:
            used.note(error)
            raise
        finally:
            stack.close()
            used.seconds = time.perf_counter() - started
            totals = together(crew)
            used.cpu_seconds, used.peak_bytes = totals["cpu_seconds"], totals["peak_bytes"]
            crew.forget()


def _oversee(job: Job, pool: Pool, count: int, reporter: Reporter, crew: Crew, stack: ExitStack) -> None:
    echo = Echo(job.folder, reporter)
    working, losses, ended = set(range(count)), Counter[int](), dict[int, Outcome]()
    task: Task | None = None
    shown = 0
    for number in range(count):
        pool.start(number)
    while working:
        for number, outcome in pool.ended(_LOOK_SECONDS):
            if outcome is not None:
                working.discard(number)
                ended[number] = outcome
                continue
            losses[number] += 1
            again = losses[number] < LOSSES and not any(o.kind is None for o in ended.values())
            held = ", ".join(crew.units_of(number)) or "no unit"
            reporter.warn(f"{job.stage.name}: worker {number} was lost at {held}" + ("; started again" if again else ""))
            if again:
                pool.start(number)
            else:
                working.discard(number)
        echo.read()
        task = task or _task(job, reporter, crew, stack)
        if task is not None:
            shown = _advance(task, job, shown)
    _judge(job, ended, reporter)


def _task(job: Job, reporter: Reporter, crew: Crew, stack: ExitStack) -> Task | None:
    total = crew.planned_units()
    return None if total is None else stack.enter_context(reporter.task(job.stage.name, total, "units"))


def _advance(task: Task, job: Job, shown: int) -> int:
    done = sum(1 for _ in (job.folder / "units").glob("*.json"))
    if done > shown:
        task.advance(done - shown)
    return max(done, shown)


def _judge(job: Job, ended: dict[int, Outcome], reporter: Reporter) -> None:
    """A worker that ended well saw all units done; else the first failure is the run's."""
    failed = [(number, outcome) for number, outcome in sorted(ended.items()) if outcome.kind is not None]
    if len(failed) < len(ended):
        for number, outcome in failed:
            reporter.warn(f"{job.stage.name}: worker {number} failed, and the others did its units: {outcome.message}")
        return
    if failed:
        kind = failed[0][1].kind
        assert kind is not None
        raise getattr(errors, kind)(failed[0][1].message)
    raise StoreError(
        f"{job.stage.name}: its workers were killed again and again (short of memory?); finished units are kept: lower runtime.workers or runtime.batch_size"
    )


def make_pool(job: Job, count: int) -> Pool:
    """The pool of runtime.engine; raises ConfigError with the command to type when Ray is not installed."""
    return RayPool(job, count) if job.cfg.runtime.engine == "ray" else LocalPool(job, count)


def _sendable(job: Job, threads: int) -> Job:
    # What a stage says of itself beside its work may be functions without a name, which cannot be sent, and is not asked for there.
    stage = replace(job.stage, **{field.name: field.default for field in fields(Stage) if callable(field.default)})
    runtime = job.cfg.runtime.model_copy(update={"workers": 1, "engine": "local", "threads": job.cfg.runtime.threads or threads})
    return replace(job, stage=stage, cfg=job.cfg.model_copy(update={"runtime": runtime}))


class LocalPool:
    """Processes of this machine."""

    def __init__(self, job: Job, count: int) -> None:
        self._job = _sendable(job, max(1, usable_cores() // count))
        self._count = count
        # Forked processes would share the threads and the GPU of this one.
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[Connection, tuple[int, SpawnProcess]] = {}

    def start(self, number: int) -> None:
        """Start worker `number` as a process."""
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_employed, args=(self._job, WorkerSlot(number, self._count), there), name=f"saebias-worker-{number}")
        process.start()
        there.close()
        self._running[here] = (number, process)

    def ended(self, seconds: float) -> list[tuple[int, Outcome | None]]:
        """Workers that have sent their outcome, or are gone without one."""
        found: list[tuple[int, Outcome | None]] = []
        for connection in wait(list(self._running), timeout=seconds):
            assert isinstance(connection, Connection)
            number, process = self._running.pop(connection)
            try:
                outcome = connection.recv()
            except EOFError:
                outcome = None
            connection.close()
            process.join()
            if outcome is None and process.exitcode is not None and process.exitcode > 0:
                raise RuntimeError(f"worker {number} of {self._job.stage.name} ended by an error of the program; its traceback is above")
            found.append((number, outcome))
        return found

    def close(self) -> None:
        """Kill what still runs: finished units are whole, an unfinished one is not there."""
        for connection, (_, process) in self._running.items():
            process.kill()
            process.join()
            connection.close()
        self._running.clear()


def _employed(job: Job, slot: WorkerSlot, connection: Connection) -> None:
    # Ctrl-C reaches the whole group; who started the workers also ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A lock that a library makes here (the compressor of the arrays does) has no name then: nothing is left of it when this process is killed.
    multiprocessing.set_start_method("fork", force=True)
    threading.Thread(target=_end_with_parent, name="saebias-parent", daemon=True).start()
    _own_gpu(slot.number, job.cfg.runtime.device)
    connection.send(take_part(job, slot))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _own_gpu(number: int, device: str) -> None:
    """Show this process one of several GPUs, before torch looks."""
    if device not in ("auto", "cuda"):
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(gpu["index"]) for gpu in gpu_use()] if visible is None else visible.split(",")
    if len(gpus) > 1:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]


class RayPool:
    """Actors of the Ray cluster that RAY_ADDRESS names, or of a small one that is started on this machine and ends with the run."""

    def __init__(self, job: Job, count: int) -> None:
        ray = _import_ray()
        self._ray, self._count = ray, count
        self._own = not ray.is_initialized()
        if self._own:
            _start_ray(ray)
        most = max(node["Resources"].get("CPU", 1.0) for node in ray.nodes() if node["Alive"])
        total = ray.cluster_resources().get("CPU", 1.0)
        # Fewer cores than workers: each gets a part of one, so that none waits for a place for ever.
        cores = min(most, total / count)
        cores = float(int(cores)) if cores >= 1 else cores
        gpus = 0.0 if job.cfg.runtime.device == "cpu" else min(1.0, ray.cluster_resources().get("GPU", 0.0) / count)
        self._job = _sendable(job, max(1, int(cores)))
        self._actor = ray.remote(_RayWorker).options(num_cpus=cores, num_gpus=gpus, max_restarts=0)
        self._running: dict[Any, tuple[int, Any]] = {}

    def start(self, number: int) -> None:
        """Start worker `number` as an actor."""
        actor = self._actor.remote()
        self._running[actor.work.remote(self._job, WorkerSlot(number, self._count))] = (number, actor)

    def ended(self, seconds: float) -> list[tuple[int, Outcome | None]]:
        """Workers whose task has come back, or whose actor died."""
        ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=seconds)
        found: list[tuple[int, Outcome | None]] = []
        for reference in ready:
            number, actor = self._running.pop(reference)
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayActorError:
                outcome = None
            self._ray.kill(actor)
            found.append((number, outcome))
        return found

    def close(self) -> None:
        """Kill the actors that still run, and the cluster if it was started for them."""
        for _, actor in self._running.values():
            self._ray.kill(actor)
        self._running.clear()
        if self._own:
            self._ray.shutdown()


class _RayWorker:
    def work(self, job: Job, slot: WorkerSlot) -> Outcome:
        return take_part(job, slot)


def _import_ray() -> Any:
    # Nobody asked for reports of use to be sent anywhere.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.exceptions")
    except ModuleNotFoundError:
        raise ConfigError('runtime.engine=ray: the package ray is not installed; type `pip install "ray>=2.40"`, or set runtime.engine=local') from None
    return ray


def _start_ray(ray: Any) -> None:
    # Workers find the same modules as this process, wherever it was started.
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}}
    address = os.environ.get("RAY_ADDRESS", "local")
    # Results are files, not objects: the smallest store that Ray accepts is enough.
    sizes: dict[str, Any] = {} if address != "local" else {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    start: Callable[..., Any] = ray.init
    try:
        start(address=address, runtime_env=environment, log_to_driver=False, logging_level="error", **sizes)
    except ConnectionError as error:
        raise ConfigError(f"RAY_ADDRESS={address}: no Ray cluster answers there ({' '.join(str(error).split())[:120]}); start one or unset it") from None
