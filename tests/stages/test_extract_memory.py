"""What memory has no room for is run in halves, and what is not wanted any more is not begun."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saebias.report import SilentReporter
from saebias.stages.extract import fill_shard
from saebias.stages.extract_batch import Target
from saebias.stages.extract_pictures import Maker
from saebias.stages.token_budget import TokenBudget
from saebias.vlm.loading import OutOfMemory, from_parts
from tests.stages.extract_rig import CAPTIONS, config, config_for, corpus, filled, job_of, text_config
from tests.stages.test_extract_bad_input import Said, TooLarge, with_weight
from tests.vlm.families import build_family


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAEBIAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_beginnings_that_memory_has_no_room_for_are_halved_too(tmp_path: Path) -> None:
    built = build_family("llama")
    captions = [(f"{number} a woman cook with a ball and a car {end}", None) for number in range(12) for end in ("a", "woman", "man")]
    samples, cfg = corpus(tmp_path, captions), text_config("extract.tokens.decision=false")
    whole = filled(built, cfg, samples)
    model = copy.deepcopy(built.model)
    model.set_input_embeddings(TooLarge(model.get_input_embeddings(), 90))
    said = Said()
    done = filled(from_parts(with_weight(model), built.tokenizer, None, name="small-memory"), cfg, samples, said)
    assert said.warnings and done.index == whole.index
    assert np.abs(done.shard.stored_NLD - whole.shard.stored_NLD).max() < 2e-5 * np.abs(whole.shard.stored_NLD).max()


class ShortTarget(np.ndarray):
    """A shard's rows; more than 40 at a time ask for far more memory than there is."""

    def __setitem__(self, place: object, values: object) -> None:
        if isinstance(place, np.ndarray) and len(place) > 40:
            np.empty(1 << 60, dtype=np.uint8)
        super().__setitem__(place, values)  # type: ignore[index]


@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_memory_that_runs_out_while_vectors_are_kept_halves_the_pass(family: str, tmp_path: Path) -> None:
    loaded, samples, said = build_family(family), corpus(tmp_path, CAPTIONS * 4), Said()
    whole = filled(loaded, config_for(loaded), samples)
    job = job_of(loaded, config_for(loaded), samples, said)
    target = Target(np.zeros_like(whole.shard.stored_NLD).view(ShortTarget), None)
    with torch.inference_mode():
        for ready in job.extractor.maker.batches(job.batches(0)):
            job.extractor.run(ready, target)
    assert said.warnings and np.allclose(np.asarray(target.stored_NLD), whole.shard.stored_NLD, atol=2e-5 * np.abs(whole.shard.stored_NLD).max())


def test_a_budget_that_was_halved_never_grows_again() -> None:
    budget = TokenBudget(text_config("runtime.token_budget=100"), build_family("llama"), 1, Said())
    for n_tokens, left in ((100, 50), (4000, 50), (50, 25), (1, 1), (0, 1)):
        budget.halve(n_tokens)
        assert budget.tokens == left or (n_tokens == 0 and budget.tokens == 1)


class Watched:
    """A processor that counts its calls, waits for leave from the second on, and asks for too much memory for more than `most` pictures."""

    def __init__(self, inner: Any, most: int = 1000) -> None:
        self.inner, self.most, self.calls, self.leave = inner, most, 0, threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __deepcopy__(self, memo: object) -> Watched:
        return self

    def __call__(self, images: list[Any], **options: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            self.leave.wait(timeout=60)
        if len(images) > self.most:
            np.empty(1 << 60, dtype=np.uint8)
        return self.inner(images=images, **options)


def test_after_an_error_no_further_pictures_are_made_ready(tmp_path: Path) -> None:
    built = build_family("gemma3")
    job = job_of(built, config("runtime.batch_size=1"), corpus(tmp_path, CAPTIONS * 2))
    watched = Watched(built.processor)
    maker = Maker(replace(built, processor=watched), lambda _: None)
    batches = job.batches(0)
    assert len(batches) == 10
    making = maker.batches(batches, batches[0])
    next(making)
    making.close()
    watched.leave.set()
    maker.pixels([])
    assert watched.calls <= 2
    # The maker itself goes on.
    assert len(list(maker.batches(batches))) == 10


def test_pictures_that_memory_has_no_room_for_are_made_ready_in_halves(tmp_path: Path) -> None:
    built, samples = build_family("gemma3"), corpus(tmp_path, CAPTIONS * 2)
    whole = filled(built, config(), samples)
    said: list[int] = []
    job = job_of(built, config(), samples)
    for most in (3, 0):
        watched = Watched(built.processor, most)
        watched.leave.set()
        job.extractor.maker = Maker(replace(built, processor=watched), said.append)
        if most == 0:
            with pytest.raises(OutOfMemory, match=r"^sample s\d+: its picture does not fit into memory"):
                list(job.extractor.maker.batches(job.batches(0)))
            continue
        with SilentReporter().task("", 0) as task:
            done = fill_shard(job, 0, task)
        assert said == [10, 5, 5] and done.status == whole.shard.status and done.token_rows.equals(whole.shard.token_rows)
        assert np.allclose(done.stored_NLD, whole.shard.stored_NLD, atol=2e-5 * np.abs(done.stored_NLD).max())
