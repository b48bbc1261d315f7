"""What memory has no room for is run in halves, and what is not wanted any more is not begun."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saebias.errors import ModelError
from saebias.report import SilentReporter
from saebias.stages.extract import fill_shard
from saebias.stages.extract_batch import Target
from saebias.stages.extract_pictures import Maker
from saebias.stages.token_budget import TokenBudget
from saebias.vlm.loading import LoadedModel, OutOfMemory, from_parts
from tests.stages.extract_rig import CAPTIONS, Said, TooLarge, config, config_for, corpus, filled, job_of, text_config, with_weight
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


@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_out_of_memory_halves_the_pass_goes_on_and_is_remembered(family: str, tmp_path: Path, cache: Path) -> None:
    import copy

    # No two begin alike: what captions share is run once, and would fit.
    built, samples = build_family(family), corpus(tmp_path, [(f"{number} {en}", f"{number} {ar}") for number, (en, ar) in enumerate(CAPTIONS * 4)])
    whole = filled(built, config_for(built), samples)
    model = copy.deepcopy(built.model)
    model.set_input_embeddings(TooLarge(model.get_input_embeddings(), 90))
    loaded = replace(from_parts(with_weight(model), built.tokenizer, built.processor, name="small-memory"), digest="0" * 64)
    said = Said()
    done = filled(loaded, config_for(built), samples, said)
    assert done.index == whole.index and done.shard.status == whole.shard.status
    assert np.abs(done.shard.stored_NLD - whole.shard.stored_NLD).max() < 2e-5 * np.abs(whole.shard.stored_NLD).max()
    assert said.warnings and all("out of memory with" in message and str(cache) in message for message in said.warnings)
    # What was learnt is where the next run begins: it meets its limit at less than half of the first attempt, if at all.
    again = Said()
    assert np.array_equal(filled(loaded, config_for(built), samples, again).index, done.index)
    first = int(said.warnings[0].split(" with ")[1].split()[0])
    assert all(int(message.split(" with ")[1].split()[0]) <= first / 2 for message in again.warnings)
    assert json.loads((cache / "token-budgets.json").read_text()) != {}
    tiny = copy.deepcopy(model)
    tiny.get_input_embeddings().most = 3
    with pytest.raises(OutOfMemory, match=r"sample s\d+: a single row of \d+ tokens does not fit"):
        filled(from_parts(tiny, built.tokenizer, built.processor, name="no-memory"), config_for(built), samples, said)


LIMITED = """
import resource, sys, tempfile
from pathlib import Path
from tests.stages.extract_rig import CAPTIONS, text_config, corpus, filled
from tests.stages.extract_rig import Said
from tests.stages.test_extract_memory import wide_llama
import torch
torch.set_num_threads(1)
loaded = wide_llama()
samples = corpus(Path(sys.argv[1]), [(f"{n} {en} {en} {en} {en}", f"{n} {ar}") for n, (en, ar) in enumerate(CAPTIONS * 40)])
cfg = text_config("runtime.token_budget=100000", "extract.shard_rows=16384", "extract.layers=1")
filled(loaded, text_config("extract.layers=1"), samples[:2])
now = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (now + int(float(sys.argv[2]) * 2**20),) * 2)
said = Said()
done = filled(loaded, cfg, samples, said)
print(len(said.warnings), sum(status == "done" for status, *_ in done.status.values()))
"""


def wide_llama() -> LoadedModel:
    """A text-only model whose MLP needs much memory per token."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    built = build_family("llama")
    config = LlamaConfig(**{**built.model.config.to_dict(), "intermediate_size": 8192})
    torch.manual_seed(1)
    return from_parts(AutoModelForCausalLM.from_config(config), built.tokenizer, None, name="wide-llama")


@pytest.mark.slow
def test_a_real_limit_on_memory_is_survived_with_smaller_passes(tmp_path: Path, cache: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path), "330"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    warnings, finished = (int(word) for word in done.stdout.split())
    assert warnings >= 1 and finished == 2 * 5 * 40


class Failing(torch.nn.Module):
    """An embedding that raises `error` for the third pass."""

    def __init__(self, inner: torch.nn.Module, error: RuntimeError) -> None:
        super().__init__()
        self.inner, self.error, self.calls = inner, error, 0

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return self.inner(ids)


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (
            torch.AcceleratorError("CUDA error: device-side assert triggered"),
            ModelError,
            r"^the GPU failed while running samples s\d+ to s\d+ \(CUDA error: dev",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling"), ModelError, r"^the GPU failed .* their shard is not done: run the same"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError, "mat1"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), None, "out of memory with"),
        (torch.AcceleratorError("CUDA error: out of memory"), None, "out of memory with"),
    ],
)
def test_an_error_of_the_gpu_names_the_samples_and_what_memory_lacks_is_halved(
    error: RuntimeError, raised: type[Exception] | None, said: str, tmp_path: Path, cache: Path
) -> None:
    import copy

    built = build_family("llama")
    model = copy.deepcopy(built.model)
    model.set_input_embeddings(Failing(model.get_input_embeddings(), error))
    loaded = from_parts(with_weight(model), built.tokenizer, None, name="failing")
    told = Said()
    if raised is None:
        assert {status for status, *_ in filled(loaded, text_config(), corpus(tmp_path), told).status.values()} == {"done"}
        assert len(told.warnings) == 1 and said in told.warnings[0]
        return
    with pytest.raises(raised, match=said):
        filled(loaded, text_config(), corpus(tmp_path), told)
