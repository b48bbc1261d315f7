"""Dictionaries of every trainer on the same rows: at equal rows and at equal processor time, judged on rows that none was trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from saebias.sae.bench.environment import run_child
from saebias.sae.bench.rows import Sizes
from saebias.sae.bench.trainers import OURS, Contestant
from saebias.sae.formats import load_sae
from saebias.sae.module import SparseAutoencoder

Judge = Callable[[SparseAutoencoder], dict[str, float]]
BUDGETS = ("rows", "time")
FEW_STEPS = 20
"""Steps of the shortest training: fewer are refused by some schedules."""


@dataclass(frozen=True)
class Problem:
    """What all trainers are given: the rows, the shape, and a pass of `n_rows`."""

    rows: Path
    n_rows: int
    d_model: int
    n_latents: int
    k: int

    def sizes(self, contestant: Contestant, n_rows: float, seed: int) -> Sizes:
        """The sizes for a contestant that sees `n_rows` rows (more than there are: in several passes)."""
        return Sizes(self.d_model, self.n_latents, self.k, contestant.batch_size, max(FEW_STEPS, round(n_rows / contestant.batch_size)), seed)


@dataclass(frozen=True)
class Entry:
    """One trained dictionary: who trained it under which budget, what it cost, and how it was judged."""

    name: str
    budget: str
    seed: int
    rows: int
    cpu_seconds: float
    judged: dict[str, float]


def compare(
    problem: Problem, contestants: Sequence[Contestant], judge: Judge, *, seeds: Sequence[int], budgets: Sequence[str], python: Path, threads: int,
    report: Callable[[Entry], None],
) -> list[Entry]:  # fmt: skip
    """An entry for ours and each contestant, seed and budget, handed to `report` as they come.

    `rows`: everybody sees one pass. `time`: everybody may spend the processor time that ours took for its pass. A peer's pace is the difference between two
    short trainings, so that what it spends once does not count for its steps.
    """
    entries: list[Entry] = []
    paces: dict[str, tuple[float, float]] = {}

    def run(contestant: Contestant, n_rows: float, budget: str, seed: int) -> Entry:
        sizes = problem.sizes(contestant, n_rows, seed)
        sae, cpu_seconds = _train(problem, contestant, sizes, python, threads)
        entry = Entry(contestant.name, budget, seed, sizes.steps * sizes.batch_size, cpu_seconds, judge(sae))
        entries.append(entry)
        report(entry)
        return entry

    for seed in seeds:
        ours = run(OURS, problem.n_rows, "one pass", seed)
        for contestant in contestants:
            if contestant == OURS:
                continue
            if "rows" in budgets:
                run(contestant, problem.n_rows, "one pass", seed)
            if "time" in budgets:
                if contestant.name not in paces:
                    paces[contestant.name] = _pace(problem, contestant, python, threads)
                few_seconds, step_seconds = paces[contestant.name]
                steps = max(FEW_STEPS, (ours.cpu_seconds - few_seconds) / step_seconds + FEW_STEPS)
                run(contestant, steps * contestant.batch_size, "equal time", seed)
    return entries


def _pace(problem: Problem, contestant: Contestant, python: Path, threads: int) -> tuple[float, float]:
    """Processor seconds of the shortest training, and of each step that is added to it."""
    few, more = (problem.sizes(contestant, steps * contestant.batch_size, 0) for steps in (FEW_STEPS, 2 * FEW_STEPS))
    (_, few_seconds), (_, more_seconds) = (_train(problem, contestant, sizes, python, threads) for sizes in (few, more))
    return few_seconds, (more_seconds - few_seconds) / (more.steps - few.steps)


def _train(problem: Problem, contestant: Contestant, sizes: Sizes, python: Path, threads: int) -> tuple[SparseAutoencoder, float]:
    with tempfile.TemporaryDirectory() as folder:
        task = {
            "task": "train", "trainer": contestant.name, "library": contestant.library, "settings": contestant.settings, "sizes": asdict(sizes),
            "rows": str(problem.rows), "out": folder, "threads": threads,
        }  # fmt: skip
        cpu_seconds = run_child(python, task)["cpu_seconds"]
        return load_sae(Path(folder))[0], cpu_seconds
