"""A small corpus of random pictures, and the extraction of any model in memory over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from saebias.config.load import load_config
from saebias.config.schema import Config
from saebias.report import SilentReporter
from saebias.stages.extract import FilledShard, Job, fill_shard
from saebias.stages.extract_batch import Extractor
from saebias.stages.extract_plan import Sample, hook_points, plan_shards
from saebias.stages.extract_prompts import wordings
from saebias.stages.model_access import ClosedSet
from saebias.stages.token_budget import TokenBudget
from saebias.vlm.loading import LoadedModel

CAPTIONS = (
    ("a woman cook with a ball", "طباخة مع كرة"),
    ("a man cook with a car", "طباخ مع سيارة"),
    ("a woman", "طباخة"),
    ("describe the picture a man cook with a ball and a car", "صف الصورة طباخ مع كرة"),
    ("a cook", "طباخ"),
)
SETS = {
    ("*", "en"): ClosedSet(("a woman",), ("a man",), ("a cook",)),
    ("*", "ar"): ClosedSet(("طباخة",), ("طباخ مع",), ()),
}


def corpus(folder: Path, captions: Sequence[tuple[str | None, str | None]] = CAPTIONS, size: tuple[int, int] = (32, 32)) -> list[Sample]:
    """Samples with random pictures, each its own."""
    rng = np.random.default_rng(0)
    samples = []
    for number, pair in enumerate(captions):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
        samples.append(Sample(f"s{number}", "sae", None, str(path), size, pair))
    return samples


def config(*overrides: str) -> Config:
    """Everything in full precision, in one small shard, with plain prompts."""
    prompts = ['model.prompt_en="{image}describe:"', 'model.prompt_ar="{image}صف الصورة:"']
    return load_config(None, ["extract.dtype=float32", "extract.shard_rows=1024", *prompts, *overrides])


def text_config(*overrides: str) -> Config:
    """The same for a model that reads no pictures."""
    return config('model.prompt_en="describe:"', 'model.prompt_ar="صف الصورة:"', *overrides)


def config_for(loaded: LoadedModel, *overrides: str) -> Config:
    """The configuration that suits the model."""
    return text_config(*overrides) if loaded.processor is None else config(*overrides)


def job_of(loaded: LoadedModel, cfg: Config, samples: Sequence[Sample], reporter: Any = None) -> Job:
    """The job as the stage opens it, over a model in memory."""
    hooks = hook_points(cfg, loaded.adapter.n_layers)
    words = wordings(cfg, loaded)
    shards = plan_shards(cfg, loaded, samples, words)
    budget = TokenBudget(cfg, loaded, len(hooks), reporter or SilentReporter())
    return Job(shards, hooks, words, Extractor(cfg, loaded, hooks, words, SETS, budget, 7), len(samples), {})


def filled(loaded: LoadedModel, cfg: Config, samples: Sequence[Sample], reporter: Any = None) -> Extracted:
    """The first shard of an extraction."""
    job = job_of(loaded, cfg, samples, reporter)
    with SilentReporter().task("", 0) as task:
        return Extracted(job, fill_shard(job, 0, task))


@dataclass(frozen=True)
class Extracted:
    """A filled shard with its job."""

    job: Job
    shard: FilledShard

    @property
    def index(self) -> list[dict[str, Any]]:
        """The row index."""
        table: pa.Table = self.shard.token_rows
        return table.to_pylist()

    @property
    def status(self) -> dict[tuple[str, str], tuple[str, str | None, int]]:
        """Per sample and language what became of it."""
        return {(row["sample_id"], row["language"]): (row["status"], row["reason"], row["n_rows"]) for row in self.shard.status}

    def vectors(self) -> dict[tuple[str, str, int, int, bool], np.ndarray]:
        """Vectors (L, D) by sample, language, position, token id and whether it is the decision."""
        keys = [(row["sample_id"], row["language"], row["position"], row["token_id"], row["decision"]) for row in self.index]
        assert len(set(keys)) == len(keys)
        return {key: self.shard.stored_NLD[row["row"]] for key, row in zip(keys, self.index, strict=True)}


class Said(SilentReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str, **fields: object) -> None:
        self.warnings.append(message)


class TooLarge(torch.nn.Module):
    """An attention-free stand-in for memory: the forward pass really asks for far more than there is once a pass has more than `most` tokens."""

    def __init__(self, inner: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.most = inner, most

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if ids.numel() > self.most:
            torch.empty(1 << 60, dtype=torch.uint8)
        return self.inner(ids)


def with_weight(model: torch.nn.Module) -> torch.nn.Module:
    wrapper = model.get_input_embeddings()
    wrapper.weight = wrapper.inner.weight
    return model
