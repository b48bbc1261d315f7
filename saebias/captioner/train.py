"""The recipe: tower, decoder, save, gates."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
import transformers

from saebias import __version__
from saebias.captioner.decoder import train_decoder
from saebias.captioner.gates import GateReport, check_gates
from saebias.captioner.model import build_model, build_processor, save_captioner
from saebias.captioner.spec import CaptionerSpec
from saebias.captioner.tower import train_tower
from saebias.errors import ConfigError
from saebias.report import Reporter


def train_captioners(specs: list[CaptionerSpec], out: Path, reporter: Reporter, *, gate_images: int = 1600) -> list[GateReport]:
    """Train one captioner per spec into `out`/<name> and check its gates.

    The tower sees no caption, so it is trained once for all specs; raises ConfigError when they differ in more than their plant.
    """
    first = specs[0]
    for spec in specs[1:]:
        if _without_plant(spec) != _without_plant(first):
            raise ConfigError(f"specs {first.name!r} and {spec.name!r} differ in more than name and planted shares; train them in two calls")
    started = time.monotonic()
    tower_model = build_model(first)
    train_tower(tower_model, first, reporter)
    tower_seconds = time.monotonic() - started
    tower = tower_model.model.vision_tower.state_dict()
    return [train_on_tower(spec, tower, tower_seconds, out / spec.name, reporter, gate_images=gate_images) for spec in specs]


def train_on_tower(
    spec: CaptionerSpec, tower: dict[str, torch.Tensor], tower_seconds: float, folder: Path, reporter: Reporter, *, gate_images: int = 1600
) -> GateReport:
    """Train projector and decoder on a trained tower, write model, processor and provenance.json to `folder`, and return its gate figures."""
    started = time.monotonic()
    model = build_model(spec)
    model.model.vision_tower.load_state_dict(tower)
    train_decoder(model, spec, build_processor(spec).tokenizer, reporter)
    save_captioner(model, spec, folder)
    seconds = {"tower": round(tower_seconds), "decoder": round(time.monotonic() - started)}
    report = check_gates(folder, spec, n_images=gate_images)
    write_provenance(folder, spec, report, seconds)
    return report


def write_provenance(folder: Path, spec: CaptionerSpec, report: GateReport, seconds: dict[str, int]) -> None:
    """Write how the weights in `folder` came about, and what their gates measured, to provenance.json."""
    record = {
        "spec": spec.name,
        "spec_digest": spec.digest(),
        "training": asdict(spec.training),
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "versions": {"saebias": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "gate_seed": report.seed,
        "gates": report.rows(),
        "p": [{"context": context, "language": language, "planted": p, "measured": p_hat} for context, language, p, p_hat in report.p_hat],
    }
    (folder / "provenance.json").write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _without_plant(spec: CaptionerSpec) -> CaptionerSpec:
    contexts = tuple(replace(context, p_en=0.0, p_ar=0.0, neutral_en=0.0) for context in spec.contexts)
    return replace(spec, name="", contexts=contexts)
