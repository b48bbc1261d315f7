"""Building the captioner from real parts: assemble, train (resumable), save, and measure what was saved."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from saebias import __version__
from saebias.captioner.efficientnet import register
from saebias.captioner.mini import LANGUAGE_MODEL, assemble, save_mini
from saebias.captioner.mini_figures import MiniFigure, mini_figures
from saebias.captioner.mini_training import MiniRecipe, train_projector
from saebias.captioner.spec import CaptionerSpec
from saebias.errors import ModelError
from saebias.report import Reporter
from saebias.vlm.gguf_weights import folder_lock
from saebias.vlm.loading import load_model
from saebias.vlm.packaged import PACKAGED, check_packaged

FIGURE_SEED = 990_001


def build_mini(spec: CaptionerSpec, recipe: MiniRecipe, folder: Path, accepted: str | None, reporter: Reporter, *, figure_images: int) -> list[MiniFigure]:
    """Build the captioner into `folder` and return its figures; taken up again where an earlier call was stopped.

    Raises ModelError where a part is not installed, or Gemma's terms are not accepted.
    """
    started = time.monotonic()
    with folder_lock(folder):
        parts = assemble(accepted, recipe.init_seed, reporter.info)
        workshop = folder.with_name(f"{folder.name}-build")
        train_projector(parts, spec, recipe, workshop, reporter)
        provenance = {
            "recipe": asdict(recipe),
            "spec": spec.name,
            "spec_digest": spec.digest(),
            "seconds": round(time.monotonic() - started),
            "versions": {"saebias": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
            "terms": {"language model": PACKAGED[LANGUAGE_MODEL].terms, "picture tower": "Apache-2.0"},
        }
        save_mini(parts, folder, json.dumps(provenance, indent=1))
    del parts
    # Measured on what was saved, as every stage will open it.
    figures = measure_mini(spec, folder, accepted, figure_images=figure_images)
    for leftover in workshop.iterdir():
        leftover.unlink()
    workshop.rmdir()
    return figures


def measure_mini(spec: CaptionerSpec, folder: Path, accepted: str | None, *, figure_images: int) -> list[MiniFigure]:
    """The figures of the captioner in `folder`, which are also written beside it.

    Raises ModelError where nothing is built there, or Gemma's terms are not accepted.
    """
    check_packaged(LANGUAGE_MODEL, accepted)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no captioner yet; build it first: leave out --measure")
    register()
    figures = mini_figures(load_model(folder), spec, n_images=figure_images, seed=FIGURE_SEED)
    # Beside the folder: its content is the model's identity.
    folder.with_name(f"{folder.name}-figures.json").write_text(json.dumps([asdict(row) for row in figures], indent=1) + "\n", encoding="utf-8")
    return figures
