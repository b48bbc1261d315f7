"""Extraction beside nnsight's hooks on the same pictures and captions; run by `bench_extract --peers` in an interpreter that has nnsight.

Reads JSON from stdin: config (the whole configuration, its samples prepared), pictures, repeats.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from saebias.config.schema import Config
from saebias.report import SilentReporter
from saebias.stages.bench_extract import medians, prepared_job

if TYPE_CHECKING:
    from saebias.stages.extract import Job


def main() -> None:
    """Print the library's CPU seconds over ours."""
    from saebias.stages.extract import fill_shard

    asked = json.load(sys.stdin)
    if find_spec("nnsight") is None:
        print(f"nnsight: not installed for {sys.executable}")
        return
    job = prepared_job(Config.model_validate(asked["config"]))
    wanted = {item.sample.sample_id for item in job.shards[0][: 2 * asked["pictures"]]}
    few = replace(job, shards=[[item for item in job.shards[0] if item.sample.sample_id in wanted and item.reason is None]])
    with SilentReporter().task("", 0) as task:
        found = medians(asked["repeats"], ours=lambda: fill_shard(few, 0, task), theirs=with_nnsight(few))
    print(
        f"nnsight {import_module('nnsight').__version__} {found['theirs']:.2f} CPU s, this program {found['ours']:.2f} CPU s for the same "
        f"{len(few.shards[0])} captions of {len(wanted)} pictures: {found['theirs'] / found['ours']:.2f}x"
    )


def with_nnsight(job: Job) -> Callable[[], object]:
    """One trace over all rows that saves the layers' outputs, pictures opened and prepared as its users do."""
    import torch
    from PIL import Image

    loaded, items = job.extractor.loaded, job.shards[0]
    wrapped: Any = import_module("nnsight").NNsight(loaded.model)
    layers = sorted({hook.layer for hook in job.hooks})
    texts = [f"{job.words[item.language].rendered} {item.caption}" for item in items]

    def run() -> object:
        if loaded.processor is None:
            inputs = loaded.tokenizer(texts, padding=True, return_tensors="pt")
        else:
            pictures = []
            for item in items:
                with Image.open(item.sample.image_path) as image:
                    pictures.append([image.convert("RGB")])
            inputs = loaded.processor(images=pictures, text=texts, padding=True, return_tensors="pt")
        kept = []
        with torch.no_grad(), wrapped.trace(**inputs.to(loaded.device)):
            modules = wrapped.model.layers if loaded.processor is None else wrapped.model.language_model.layers
            for layer in layers:
                kept.append(modules[layer].output.save())
        return [x_BTD.to(torch.bfloat16) for x_BTD in kept]

    return run


if __name__ == "__main__":
    main()
