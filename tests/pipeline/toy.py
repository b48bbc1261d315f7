"""A pipeline of two small stages over the real frame, for tests of the frame itself.

`prepare` writes one row per unit with a number drawn from the unit's seed; `extract` sums them.
TOY_DIE_AT=unit kills the process (SIGKILL) in the middle of that unit, with TOY_DIED=file only the first process to come there;
TOY_WAIT_AT=unit waits there for a file to appear; TOY_FAIL_AT=unit is an error there.
TOY_OTHER=unit draws other numbers there.
TOY_WORKERS=n has n workers do it. A third argument such as 0/2 makes it a worker.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from saebias.config.load import load_config
from saebias.errors import InputError, SaebiasError
from saebias.pipeline.crews import parse_slot
from saebias.pipeline.runner import run_stages
from saebias.pipeline.stage import Stage, StageContext
from saebias.report import SilentReporter

UNITS = [f"u{i}" for i in range(4)]


def _row(unit: str, number: int, value: float) -> dict[str, object]:
    return {"source": unit, "row_number": number, "sample_id": None, "column": None, "value": repr(value), "reason": "toy"}


def die() -> None:
    mark = os.environ.get("TOY_DIED")
    if mark is None or not Path(mark).exists():
        if mark is not None:
            Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def run_numbers(ctx: StageContext) -> None:
    # As libraries do, compressors of arrays among them.
    lock = multiprocessing.Lock()
    for unit in ctx.claimed(ctx.pending(UNITS)):
        with ctx.unit(unit) as out:
            with lock:
                rng = np.random.default_rng(ctx.seed(unit) + (os.environ.get("TOY_OTHER") == unit))
            out.rows("sample_problems", [_row(unit, i, rng.random()) for i in range(3)])
            ctx.reporter.info(f"did {unit} in {os.getpid()}")
            if os.environ.get("TOY_DIE_AT") == unit:
                die()
            if os.environ.get("TOY_FAIL_AT") == unit:
                raise InputError(f"the reason at {unit}")
            if os.environ.get("TOY_WAIT_AT") == unit:
                Path(os.environ["TOY_READY"]).touch()
                while not Path(os.environ["TOY_GO"]).exists():
                    time.sleep(0.02)


def run_total(ctx: StageContext) -> None:
    for unit in ctx.pending(["total"]):
        with ctx.unit(unit) as out:
            values = [float(row["value"]) for row in ctx.table("sample_problems").to_pylist()]
            out.rows("extract_status", [{"sample_id": repr(sum(values)), "language": "en", "status": "done", "reason": None, "n_rows": ctx.cfg.train.k}])


NUMBERS = Stage(name="prepare", run=run_numbers, help="numbers", reads=("data",), tables=("sample_problems",), parallel=True)
TOTAL = Stage(name="extract", run=run_total, help="their sum", needs=("prepare",), reads=("train.k",), tables=("extract_status",))
TOYS = (NUMBERS, TOTAL)

if __name__ == "__main__":
    try:
        shared = len(sys.argv) > 2
        run_stages(
            load_config(None, [f"runtime.artifacts={sys.argv[1]}", f"runtime.workers={os.environ.get('TOY_WORKERS', 1)}"]),
            TOYS,
            ["prepare"] if shared else ["prepare", "extract"],
            SilentReporter(),
            worker=parse_slot(sys.argv[2]) if shared else None,
        )
    except SaebiasError as error:
        print(error)
        sys.exit(2)
