"""Many dictionaries in one reading of the data: layers, seeds, widths and k side by side, each as if it were trained alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from saebias.errors import InputError
from saebias.report import Reporter
from saebias.sae.batches import ShuffledRows
from saebias.sae.training import Training, ended_early, live_fields

TURN = 8
"""Batches that one dictionary learns from before the next one's turn: its weights stay in the processor's cache meanwhile. Changes no number."""


@dataclass(frozen=True)
class Pupil:
    """One training, by name, with the place of its hook point on the first axis of the batches."""

    name: str
    training: Training
    hook: int


def train_together(
    pupils: Sequence[Pupil], rows: ShuffledRows, *, reporter: Reporter, checkpoint_every: int | None = None, save: Callable[[int], None] | None = None
) -> None:
    """Let all trainings, which have made equally many steps, learn to their ends from one stream of batches.

    After every `checkpoint_every` steps `save(number)` is called for each pupil still learning: at that moment the states of its training and of `rows` belong
    together. Raises InputError when the rows end before the trainings do.
    """
    made = {pupil.training.step_count for pupil in pupils}
    assert len(made) == 1, f"trainings that have made {sorted(made)} steps cannot share one stream"
    step, last = made.pop(), max(pupil.training.steps for pupil in pupils)
    with reporter.task(f"training {len(pupils)} dictionaries", last * len(pupils), "steps") as task:
        task.advance(step * len(pupils))
        while any(not pupil.training.done for pupil in pupils):
            until = min(step + TURN, last, last if checkpoint_every is None else (step // checkpoint_every + 1) * checkpoint_every)
            batches = [batch for batch in (rows.next_batch() for _ in range(until - step)) if batch is not None]
            for pupil in pupils:
                _learn(pupil, batches)
                task.advance(until - step, **live_fields([p.training for p in pupils]))
            if len(batches) < until - step and any(not pupil.training.done for pupil in pupils):
                raise ended_early(step + len(batches), last)
            step = until
            if checkpoint_every is not None and save is not None and step % checkpoint_every == 0:
                for number, pupil in enumerate(pupils):
                    if not pupil.training.done:
                        save(number)


def _learn(pupil: Pupil, batches: Sequence[Tensor]) -> None:
    try:
        for batch_LBD in batches:
            if not pupil.training.done:
                pupil.training.step(batch_LBD[pupil.hook])
    except InputError as error:
        raise type(error)(f"{pupil.name}: {error}") from error
