"""Running or planning a group of stages from the command line."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from saebias.cli.console import make_reporter
from saebias.cli.tables import stdout_console
from saebias.config.load import load_config
from saebias.config.schema import Config
from saebias.errors import ConfigError, MissingParent
from saebias.pipeline.crews import parse_slot, slot_of_array
from saebias.pipeline.planning import PlannedStage, plan, read_run, select_stages, with_parts_needed
from saebias.pipeline.runner import check_parents, run_stages
from saebias.pipeline.stage import Estimate
from saebias.pipeline.verifying import verify_runs
from saebias.stages.model_presence import absent_model
from saebias.stages.registry import STAGES, TOOL_PARTS
from saebias.store.catalogue import catalogue_path
from saebias.store.files import free_bytes


def run_group(
    group: str | None,
    config: Path | None,
    overrides: Sequence[str],
    only: Sequence[str],
    *,
    force: bool,
    dry_run: bool,
    quiet: bool,
    worker: str | None = None,
    verify: bool = False,
) -> int:
    """Run the stages of a command (None: all) and return the exit code. `worker` such as `0/4`; without it a job array says it, for what can be shared.

    With `verify` nothing is run: what was written is read back.
    """
    slot = None if worker is None else parse_slot(worker)
    cfg = load_config(config, overrides)
    wanted = select_stages(STAGES, group, only, TOOL_PARTS)
    if slot is None and group is not None and all(stage.parallel for stage in STAGES if stage.name in wanted):
        slot = slot_of_array(os.environ)
    if verify:
        if force or dry_run or worker is not None:
            raise ConfigError("--verify reads back what was written and runs nothing: leave --force, --dry-run and --worker out")
        verify_runs(plan(cfg, STAGES, wanted), wanted, make_reporter(quiet))
        return 0
    if group is not None:
        _refuse_unfit(cfg, wanted)
    if dry_run:
        print_plan(cfg, wanted, force=force, options=_options(config, overrides))
        if group == "extract":
            from saebias.cli.extract_cost import print_measured_cost

            print_measured_cost(cfg)
        return 0
    reporter = make_reporter(quiet)
    try:
        run_stages(cfg, STAGES, wanted, reporter, force=force, worker=slot, options=_options(config, overrides))
    except KeyboardInterrupt:
        print("saebias: stopped; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    if not quiet:
        _say_where(cfg, wanted, reporter)
    return 0


def _options(config: Path | None, overrides: Sequence[str]) -> str:
    """What chose the configuration, as it is typed."""
    words = [*([] if config is None else ["-c", str(config)]), *(word for override in overrides for word in ("--set", override))]
    return "".join(f" {shlex.quote(word)}" for word in words)


def _refuse_unfit(cfg: Config, wanted: Sequence[str]) -> None:
    """Raise ConfigError where nothing of what was asked for by name makes sense with this model; run-all leaves it out and goes on."""
    reasons = {stage.name: stage.unfit(cfg) for stage in STAGES if stage.name in wanted}
    if all(reason is not None for reason in reasons.values()):
        name, reason = next(iter(reasons.items()))
        raise ConfigError(f"{name}: {reason}")


def _say_where(cfg: Config, wanted: Sequence[str], reporter) -> None:
    reporter.info(f"catalogue: {catalogue_path(cfg.runtime.artifacts)} - ask it with `saebias query`")
    if "plot" in wanted:
        reporter.info(f"report: {cfg.runtime.artifacts / 'report' / 'index.html'}")


def estimate_of(cfg: Config, item: PlannedStage) -> Estimate:
    """The stage's estimate; where an earlier run of this stage was recorded with as many samples, its time and memory."""
    formula = item.stage.estimate(cfg)
    record = read_run(item.folder)
    if record is not None and record["status"] == "done":
        memory = (record["peak_memory_mib"] or 0) * 2**20
        return Estimate(formula.disk_bytes, memory or formula.memory_bytes, record["seconds"], "measured in its last run")
    return formula


def print_plan(cfg: Config, wanted: Sequence[str], *, force: bool, options: str = "") -> None:
    """Print to stdout what would run and what it needs, also of what is not there yet."""
    planned = plan(cfg, STAGES, wanted)
    wanted, asked = with_parts_needed(planned, wanted), set(wanted)
    table = Table(title="What would run", title_justify="left")
    for name, justify in (("stage", "left"), ("run", "left"), ("what", "left"), ("disk", "right"), ("memory", "right"), ("time", "right"), ("basis", "left")):
        table.add_column(name, justify=justify, no_wrap=name in ("stage", "run"), overflow="fold")  # type: ignore[arg-type]
    total_disk = total_seconds = peak = 0.0
    for name in planned:
        if name not in wanted:
            continue
        item = planned[name]
        estimate = estimate_of(cfg, item)
        todo = (force and name in asked) or item.state != "done"
        what = (
            "up to date"
            if not todo
            else "run again (--force)"
            if item.state == "done"
            else "run"
            if item.state == "new"
            else f"{_VERBS[item.state]} ({item.reason})"
        )
        if todo:
            total_disk, total_seconds, peak = total_disk + estimate.disk_bytes, total_seconds + estimate.seconds, max(peak, estimate.memory_bytes)
        table.add_row(name, item.fingerprint, what, _size(estimate.disk_bytes), _size(estimate.memory_bytes), f"{estimate.seconds:.0f} s", estimate.basis)
    console = stdout_console(160)
    console.print(table)
    free = free_bytes(cfg.runtime.artifacts.absolute())
    console.print(
        f"to do: {_size(total_disk)} of disk ({_size(free)} free at {cfg.runtime.artifacts}), {_size(peak)} of memory at the peak, about {total_seconds:.0f} s",
        highlight=False,
    )
    absent = absent_model(cfg)
    if absent is not None and any("model" in planned[name].stage.reads and ((force and name in asked) or planned[name].state != "done") for name in wanted):
        console.print(f"! {absent}")
    try:
        check_parents(cfg, planned, asked, wanted, options)
    except MissingParent as error:
        console.print(f"! {error}", highlight=False, soft_wrap=True, markup=False)


_VERBS = {"partial": "resume", "stale": "run again"}


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
