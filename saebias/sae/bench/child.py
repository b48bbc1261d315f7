"""One trainer in one process: takes a task as JSON, prints its figures as one line of JSON. Started by `environment.run_child`."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from saebias.sae.bench.rows import ClockedRows, ShuffledRows, Sizes, activation_like_rows
from saebias.sae.bench.trainers import trainer_of
from saebias.sae.formats import save_sae

DATA_SEED = 20_261_122


def timed(task: dict) -> dict[str, float]:
    """Median processor milliseconds of a step and of one encoder product, their ratio, and the memory that the training took beside the rows."""
    sizes = Sizes(**task["sizes"])
    x_ND = activation_like_rows(4 * sizes.batch_size, sizes.d_model, seed=DATA_SEED).numpy()
    train = trainer_of(task["library"])
    small = Sizes(sizes.d_model, 4 * sizes.k, sizes.k, 256, 2)
    train(ShuffledRows(x_ND, 256, DATA_SEED), small, task["settings"])  # code that is compiled or loaded once is not memory of this shape
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows: ShuffledRows | ClockedRows = ShuffledRows(x_ND, sizes.batch_size, DATA_SEED)
    if not task["memory_only"]:
        rows = ClockedRows(rows, sizes.n_latents)
    train(rows, sizes, task["settings"])
    peak_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    if isinstance(rows, ShuffledRows):
        return {"peak_mib": peak_mib}
    steps, products = rows.step_seconds[-task["n_timed"] :], rows.product_seconds[-task["n_timed"] :]
    step, product = statistics.median(steps), statistics.median(products)
    return {"step_ms": 1000 * step, "product_ms": 1000 * product, "step_per_product": step / product}


def trained(task: dict) -> dict[str, float]:
    """Train on the rows of a file, keep the dictionary as `task["out"]`, and say how much processor time that took."""
    sizes = Sizes(**task["sizes"])
    x_ND = np.load(task["rows"])
    train = trainer_of(task["library"])
    if task["library"] == "saebias":
        # Compiled once a machine and kept on disk; no training pays for it twice.
        train(ShuffledRows(x_ND, 256, DATA_SEED), Sizes(sizes.d_model, 4 * sizes.k, sizes.k, 256, 2), {})
    started = time.process_time()
    sae = train(ShuffledRows(x_ND, sizes.batch_size, DATA_SEED), sizes, task["settings"])
    cpu_seconds = time.process_time() - started
    save_sae(Path(task["out"]), sae, {"trainer": task["trainer"]})
    return {"cpu_seconds": cpu_seconds}


def main() -> None:
    """Run the task of the command line."""
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    answer = {"time": timed, "train": trained}[task["task"]](task)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
