"""A pipeline of two small stages over the real frame, for tests of the frame itself.

`prepare` writes one row per unit with a number drawn from the unit's seed; `extract` sums them.
TOY_DIE_AT=unit kills the process (SIGKILL) in the middle of that unit; TOY_WAIT_AT=unit waits there for a file to appear.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from saebias.config.load import load_config
from saebias.errors import SaebiasError
from saebias.pipeline.runner import run_stages
from saebias.pipeline.stage import Stage, StageContext
from saebias.report import SilentReporter

UNITS = [f"u{i}" for i in range(4)]


def _row(unit: str, number: int, value: float) -> dict[str, object]:
    return {"source": unit, "row_number": number, "sample_id": None, "column": None, "value": repr(value), "reason": "toy"}


def run_numbers(ctx: StageContext) -> None:
    for unit in ctx.claimed(ctx.pending(UNITS)):
        with ctx.unit(unit) as out:
            rng = np.random.default_rng(ctx.seed(unit))
            out.rows("sample_problems", [_row(unit, i, rng.random()) for i in range(3)])
            if os.environ.get("TOY_DIE_AT") == unit:
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ.get("TOY_WAIT_AT") == unit:
                Path(os.environ["TOY_READY"]).touch()
                while not Path(os.environ["TOY_GO"]).exists():
                    time.sleep(0.02)


def run_total(ctx: StageContext) -> None:
    for unit in ctx.pending(["total"]):
        with ctx.unit(unit) as out:
            values = [float(row["value"]) for row in ctx.table("sample_problems").to_pylist()]
            out.rows("extract_status", [{"sample_id": repr(sum(values)), "language": "en", "status": "done", "reason": None, "n_rows": ctx.cfg.train.k}])


NUMBERS = Stage(name="prepare", run=run_numbers, help="numbers", reads=("data",), tables=("sample_problems",))
TOTAL = Stage(name="extract", run=run_total, help="their sum", needs=("prepare",), reads=("train.k",), tables=("extract_status",))
TOYS = (NUMBERS, TOTAL)

if __name__ == "__main__":
    try:
        run_stages(load_config(None, [f"runtime.artifacts={sys.argv[1]}"]), TOYS, ["prepare", "extract"], SilentReporter())
    except SaebiasError as error:
        print(error)
        sys.exit(2)
