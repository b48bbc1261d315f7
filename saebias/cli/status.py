"""`saebias status`: the stages of a configuration, and the processes at work on its artifacts folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from saebias.cli.tables import output, stdout_console
from saebias.config.load import load_config
from saebias.config.schema import Config
from saebias.pipeline.monitor import gpu_use, live_states
from saebias.pipeline.planning import PlannedStage, plan, read_run, refreshed
from saebias.stages.registry import STAGES


def show_status(config: Path | None, overrides: Sequence[str], *, watch: bool) -> None:
    """Print the state of every stage and what is running; with `watch`, renew it every second until Ctrl-C."""
    cfg = load_config(config, overrides)
    # Planned once: what a configuration asks for does not change while it is watched, only how far it is.
    planned = plan(cfg, STAGES, needed=())
    console = stdout_console(120)
    if not watch:
        with output():
            console.print(_picture(cfg, planned))
        return
    try:
        with Live(_picture(cfg, planned), console=console, refresh_per_second=2) as live:
            while True:
                time.sleep(1)
                live.update(_picture(cfg, planned))
    except KeyboardInterrupt:
        return


def _picture(cfg: Config, planned: Mapping[str, PlannedStage]) -> Group:
    states = sorted(live_states(cfg.runtime.artifacts), key=lambda state: (state["run_id"], -1 if state["worker"] is None else state["worker"]))
    runs = [list(group) for _, group in groupby(states, key=lambda state: state["run_id"])]
    return Group(_stage_table(cfg, planned, {state["run_id"] for state in states}), *(_run(states) for states in runs), _machine())


def _stage_table(cfg: Config, planned: Mapping[str, PlannedStage], running: set[str]) -> Table:
    table = Table(title=f"artifacts: {cfg.runtime.artifacts}   model: {cfg.model.name}", title_justify="left")
    for name in ("stage", "state", "run", "seconds", "rows", "rows/s", "peak MiB"):
        table.add_column(name, justify="left" if name in ("stage", "state", "run") else "right", overflow="fold")
    for name in planned:
        item = refreshed(planned, name)
        record = read_run(item.folder)
        state = "running" if item.run_id in running else {"done": "done", "new": "to do", "partial": item.reason, "stale": item.reason}[item.state]
        style = {"done": "green", "running": "bold cyan", "to do": "dim"}.get(state, "yellow")
        numbers = ["", "", "", ""]
        if record is not None and state == "done":
            numbers = [f"{record['seconds']:.1f}", f"{record['n_rows']:,}", f"{record['rows_per_second'] or 0:,.0f}", f"{record['peak_memory_mib'] or 0:,.0f}"]
        table.add_row(name, Text(state, style=style), item.fingerprint, *numbers)
    return table


def _run(states: Sequence[dict[str, Any]]) -> Group:
    """One run: how far it is, and a line for each process at it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text(states[0]["stage"], style="bold"), _units(states))
    return Group(grid, *(_process(state) for state in states))


def _units(states: Sequence[dict[str, Any]]) -> str:
    """Units of all processes together: done of how many, rate and time left since the first of those that live began; workers alive."""
    done = sum(1 for _ in (Path(states[0]["folder"]) / "units").glob("*.json"))
    totals = [state["units_total"] for state in states if state["units_total"]]
    first = min(states, key=lambda state: state["started"])
    minutes = (time.time() - first["started"]) / 60
    since = done - first["units_at_start"]
    parts = [f"{done:,} of {max(totals):,} units" if totals else f"{done:,} units"]
    if since > 0 and minutes > 0:
        parts.append(f"{since / minutes:,.1f} a minute")
        if totals:
            parts.append(f"{max(0, max(totals) - done) / since * minutes * 60:,.0f} s left")
    workers = [state["worker"] for state in states if state["worker"] is not None]
    if workers:
        parts.append(f"{len(workers)} worker{'' if len(workers) == 1 else 's'} alive ({', '.join(map(str, workers))})")
    return ", ".join(parts)


def _process(state: dict[str, Any]) -> Group:
    task = state["task"]
    grid = Table.grid(padding=(0, 2))
    left = f"{task['seconds_left']:.0f} s left" if task["seconds_left"] is not None else ""
    fields = "  ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in task["fields"].items())
    bar = ProgressBar(total=task["total"] or None, completed=task["done"], width=28)
    who = "" if state["worker"] is None else f"worker {state['worker']}"
    process = state["process"]
    if task["label"]:
        grid.add_row(f"  {who}", task["label"], bar, f"{task['done']:,}/{task['total']:,}", f"{task['rate']:,.0f} {task['unit']}/s", left, fields)
    load = f"pid {process['pid']} on {process['host']}: {state['cpu_percent']:.0f} % processor"
    return Group(grid, f"  {who + ' ' if who else ''}{load}, {state['memory_mib']:,.0f} MiB (peak {state['peak_memory_mib']:,.0f})")


def _machine() -> Group:
    memory = psutil.virtual_memory()
    load = f"machine: {psutil.cpu_count()} cores at {psutil.cpu_percent():.0f} %, {memory.used / 2**30:.1f} of {memory.total / 2**30:.1f} GiB used"
    return Group(load, *([_gpu(gpu) for gpu in gpu_use()] or ["GPU: none that the NVIDIA driver shows"]))


def _gpu(gpu: dict[str, Any]) -> str:
    use = "use not told" if gpu["percent"] is None else f"{gpu['percent']} %"
    return f"GPU {gpu['index']}: {use}, {gpu['memory_mib']:,.0f} of {gpu['total_mib']:,.0f} MiB used"
