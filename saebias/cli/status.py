"""`saebias status`: the stages of a configuration, and the processes at work on its artifacts folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from saebias.config.load import load_config
from saebias.config.schema import Config
from saebias.pipeline.monitor import live_states
from saebias.pipeline.planning import plan, read_run
from saebias.stages.registry import STAGES


def show_status(config: Path | None, overrides: Sequence[str], *, watch: bool) -> None:
    """Print the state of every stage and what is running; with `watch`, renew it every second until Ctrl-C."""
    cfg = load_config(config, overrides)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False, emoji=False)
    if not watch:
        console.print(_picture(cfg))
        return
    try:
        with Live(_picture(cfg), console=console, refresh_per_second=2) as live:
            while True:
                time.sleep(1)
                live.update(_picture(cfg))
    except KeyboardInterrupt:
        return


def _picture(cfg: Config) -> Group:
    states = live_states(cfg.runtime.artifacts)
    return Group(_stage_table(cfg, {state["run_id"] for state in states}), *(_running(state) for state in states), _machine())


def _stage_table(cfg: Config, running: set[str]) -> Table:
    table = Table(title=f"artifacts: {cfg.runtime.artifacts}   model: {cfg.model.name}", title_justify="left")
    for name in ("stage", "state", "run", "seconds", "rows", "rows/s", "peak MiB"):
        table.add_column(name, justify="left" if name in ("stage", "state", "run") else "right")
    for name, item in plan(cfg, STAGES, needed=()).items():
        record = read_run(item.folder)
        state = "running" if item.run_id in running else {"done": "done", "new": "to do", "partial": item.reason, "stale": item.reason}[item.state]
        style = {"done": "green", "running": "bold cyan", "to do": "dim"}.get(state, "yellow")
        numbers = ["", "", "", ""]
        if record is not None and state == "done":
            numbers = [f"{record['seconds']:.1f}", f"{record['n_rows']:,}", f"{record['rows_per_second'] or 0:,.0f}", f"{record['peak_memory_mib'] or 0:,.0f}"]
        table.add_row(name, Text(state, style=style), item.fingerprint, *numbers)
    return table


def _running(state: dict[str, Any]) -> Group:
    task = state["task"]
    grid = Table.grid(padding=(0, 2))
    left = f"{task['seconds_left']:.0f} s left" if task["seconds_left"] is not None else ""
    fields = "  ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in task["fields"].items())
    bar = ProgressBar(total=task["total"] or None, completed=task["done"], width=28)
    grid.add_row(
        Text(state["stage"], style="bold"), task["label"], bar, f"{task['done']:,}/{task['total']:,}", f"{task['rate']:,.0f} {task['unit']}/s", left, fields
    )
    load = f"pid {state['process']['pid']}: {state['cpu_percent']:.0f} % processor, {state['memory_mib']:,.0f} MiB (peak {state['peak_memory_mib']:,.0f})"
    gpus = "  ".join(f"GPU {g['index']}: {g['percent']} %, {g['memory_mib']:,.0f} of {g['total_mib']:,.0f} MiB" for g in state["gpus"])
    return Group(grid, f"  {load}  {gpus}".rstrip())


def _machine() -> str:
    memory = psutil.virtual_memory()
    return f"machine: {psutil.cpu_count()} cores at {psutil.cpu_percent():.0f} %, {memory.used / 2**30:.1f} of {memory.total / 2**30:.1f} GiB used"
