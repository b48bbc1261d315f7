"""`torchrun --nproc-per-node N -m saebias train`: several processes hold the latents of one dictionary after another.

Process 0 is the command as it always is: it plans, reads, writes and says everything. The others only wait for trainings to take part in.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saebias.errors import ConfigError, InputError, SaebiasError
from saebias.identifiers import HookPoint
from saebias.pipeline.stage import StageContext
from saebias.report import Reporter, SilentReporter
from saebias.stages.train_pass import TrainData, Waiting, loop_config, write_dictionary

if TYPE_CHECKING:
    from saebias.sae.module import SaeSpec
    from saebias.sae.peers import Peers
    from saebias.sae.row_order import OrderSpec
    from saebias.sae.sinks import Sink
    from saebias.sae.trainer import TrainConfig
    from saebias.sae.training_records import LoopConfig, TrainedSae

STARTED_BY_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SHARES_LATENTS = "SAEBIAS_SHARES_LATENTS"
"""Set for the children of a command that torchrun started: they are no part of it, and workers must know."""


@dataclass(frozen=True)
class SharedTraining:
    """All that a process must know to take part in the training of one dictionary."""

    activations: Path
    hook: HookPoint
    rows: np.ndarray
    """Activation rows to learn from, sorted."""
    validation: np.ndarray
    order: OrderSpec
    steps: int
    spec: SaeSpec
    config: TrainConfig
    loop: LoopConfig
    checkpoint: Path
    checkpoint_every: int
    identity: dict[str, object]
    """What the checkpoint must agree in."""
    threads: int
    """Threads of each process."""


def learn_together(task: SharedTraining, peers: Peers, reporter: Reporter, sink: Sink | None = None) -> TrainedSae | None:
    """Take part in a training with the other processes; what was trained in the leading one, None in the others.

    Each reads the same rows in the same order; a checkpoint holds all latents, so that any number of processes, or one alone, can take it up.
    """
    import torch

    from saebias.sae.batches import ShuffledRows
    from saebias.sae.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from saebias.sae.together import Pupil, train_together
    from saebias.sae.training import SCALE_ROWS, Training
    from saebias.store.arrays import ActivationArray

    torch.set_num_threads(task.threads)
    array = ActivationArray(task.activations)
    with ShuffledRows(lambda start, stop: array.read_rows(task.hook, task.rows[start:stop]), task.order) as rows:
        validation_ND = torch.from_numpy(array.read_rows(task.hook, task.validation))
        first_ND = rows.first_rows(SCALE_ROWS)[0]
        training = Training(task.spec, _here(task.config), first_ND, task.steps, validation_ND=validation_ND, loop=task.loop, sink=sink, peers=peers)
        found = load_checkpoint(task.checkpoint, task.identity)
        if found is not None:
            training.restore(found.tensors, found.facts["training"])
            rows.restore({name.removeprefix("rows."): t for name, t in found.tensors.items() if name.startswith("rows.")}, found.facts["rows"])
            reporter.info(f"train {task.hook}: goes on from step {training.step_count:,} of {task.steps:,}")

        def save(_: int) -> None:
            tensors, facts = training.state()
            if peers.leads:
                row_tensors, row_facts = rows.state()
                tensors |= {f"rows.{name}": tensor for name, tensor in row_tensors.items()}
                save_checkpoint(task.checkpoint, Checkpoint(tensors, {"training": facts, "rows": row_facts}), task.identity)

        train_together([Pupil(str(task.hook), training, 0)], rows, reporter=reporter, checkpoint_every=task.checkpoint_every, save=save)
        return training.finished()


def _here(config: TrainConfig) -> TrainConfig:
    """The same on this process's own GPU, where the leading one chose GPUs."""
    import torch

    return replace(config, device=f"cuda:{torch.cuda.current_device()}") if config.device.startswith("cuda") else config


def refuse_workers(ctx: StageContext, environ: Mapping[str, str]) -> None:
    """Raise ConfigError in a worker of a command that torchrun started: the processes beside that command would wait for nothing."""
    if ctx.crew is not None and SHARES_LATENTS in environ:
        raise ConfigError("train: torchrun shares the latents of a dictionary, workers share the dictionaries; set runtime.workers=1, or leave torchrun out")


def share_pass(ctx: StageContext, data: TrainData, waiting: Sequence[Waiting], peers: Peers) -> None:
    """Train the dictionaries one after another, the latents of each shared by all processes, and write each as its own unit.

    Raises whatever a training raises, after which no other can be started.
    """
    import torch

    from saebias.sae.sinks import open_sink

    # The processes of one machine share its cores.
    threads = max(1, torch.get_num_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    for item in waiting:
        unit, spec = item.unit, item.unit.spec(ctx.cfg.train.architecture, data.array.d_model)
        task = SharedTraining(
            activations=data.array.path,
            hook=unit.hook,
            rows=data.rows,
            validation=data.validation,
            order=data.order,
            steps=data.steps,
            spec=spec,
            config=item.config,
            loop=loop_config(ctx, data.steps),
            checkpoint=item.path,
            checkpoint_every=ctx.cfg.train.checkpoint_every,
            identity=item.identity,
            threads=threads,
        )
        ctx.reporter.info(f"train {unit.name}: {spec.n_latents:,} latents shared by {peers.size} processes")
        sink = open_sink(ctx.cfg.train.track, ctx.folder / "tracking", unit.name, asdict(spec))
        try:
            trained = learn_together(peers.told(task), peers, ctx.reporter, sink)
        except InputError as error:
            raise type(error)(f"train {unit.name}: {error}") from error
        assert trained is not None
        with ctx.unit(unit.name) as out:
            write_dictionary(ctx, out, unit, trained)
        item.path.unlink(missing_ok=True)


def follow(peers: Peers) -> None:
    """Take part in one training after another until the leading process has no more; ends this process where a training cannot go on."""
    while (task := _next_task(peers)) is not None:
        try:
            learn_together(task, peers, SilentReporter())
        except SaebiasError:
            # All read the same rows: the leading process met the same error, and says it.
            raise SystemExit(2) from None


def _next_task(peers: Peers) -> SharedTraining | None:
    try:
        return peers.told(None)
    except RuntimeError:
        # The line is cut: the leading process has failed, and has said why.
        raise SystemExit(1) from None


def is_shared(environ: Mapping[str, str]) -> bool:
    """Whether torchrun started this process beside others."""
    return all(name in environ for name in STARTED_BY_TORCHRUN) and int(environ["WORLD_SIZE"]) > 1


@contextmanager
def shared_processes(environ: MutableMapping[str, str]) -> Generator[Peers]:
    """Join the processes that torchrun started; at the end the leading one lets the others go. Raises ConfigError when a GPU is missing for one of them.

    When the leading one fails it says nothing more: the others may be in the middle of a training, and torchrun ends them. The variables of torchrun are
    taken away once they are read, because children of this process are no part of it.
    """
    import torch
    import torch.distributed as dist

    from saebias.sae.peers import present_peers

    has_gpus = torch.cuda.is_available()
    if has_gpus:
        place = int(environ["LOCAL_RANK"])
        if place >= torch.cuda.device_count():
            raise ConfigError(f"torchrun started more processes than this machine has GPUs ({torch.cuda.device_count()}); lower --nproc-per-node")
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpus else "gloo")
    for name in STARTED_BY_TORCHRUN:
        environ.pop(name)
    peers = present_peers()
    environ[SHARES_LATENTS] = str(peers.size)
    try:
        yield peers
    except SystemExit as end:
        # How a command ends that went well, too.
        if end.code:
            raise
    if peers.leads:
        peers.told(None)
    dist.destroy_process_group()
