"""Killed at any moment, the same command resumes and ends with the same numbers as an unbroken run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saebias.config.load import load_config
from saebias.pipeline.planning import ancestors, plan
from saebias.stages.registry import STAGES
from tests.conftest import Ask, saebias

pytestmark = pytest.mark.slow

TINY = ["-c", "quick"]
TINY += [
    part for override in ("data.n=240", "extract.layers=2", "train.max_rows=3000", "steer.caption_images=8", "steer.images=20") for part in ("--set", override)
]
TABLES = {
    "samples": "sample_id, split, caption_en, caption_ar",
    "token_rows": "shard, row, sample_id, token_id, decision",
    "saes": "layer, seed, fvu, l0, dead_share",
    "exact_probabilities": "sample_id, language, p_female, coverage",
    "generated_captions": "sample_id, language, mode, draw, text",
    "behavior_metrics": "metric, language, context, gender, value, low, high",
    "feature_scores": "layer, latent, language, target, value_select, p, value_report, selected",
    "steering_effects": "arm, arm_name, target, layer, language, split, strength, metric, value, low, high, p",
    "steering_random_sets": "set_no, target, language, metric, value",
    "lens": "layer, language, visual_gender, gap, kl_to_final",
    "probes": "layer, train_language, test_language, token_kind, balanced_accuracy, selectivity",
    "alignment": "layer, measure, value, floor",
    "logit_attribution": "layer, component, language, visual_gender, contribution, total",
    "factored_matrices": "matrix, layer, head, language, rank, effective_rank, norm",
    "patching": "part, layer, site, token_kind, language, effect, total",
}


def kill_in_stage(folder: Path, stage: str) -> None:
    """Start run-all and kill -9 it once `stage` is running (a little later, so that it is in the middle of something)."""
    process = subprocess.Popen([sys.executable, "-m", "saebias", "run-all", *TINY, "-q"], cwd=folder, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        states = [json.loads(path.read_text()) for path in (folder / "artifacts" / "live").glob("*.json")] if process.poll() is None else []
        if any(state["stage"] == stage and state["process"]["pid"] == process.pid for state in states):
            time.sleep(0.4)
            break
        assert process.poll() is None, f"ended before {stage}: {process.communicate()[1].decode()[-2000:]}"
        time.sleep(0.03)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_in_every_stage_it_ends_with_the_numbers_of_an_unbroken_run(tmp_path: Path, ask: Ask) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    saebias("run-all", *TINY, "-q", folder=whole)
    for stage in [stage.name for stage in STAGES]:
        planned = plan(load_config(Path("quick"), [o for o in TINY[3::2]] + [f"runtime.artifacts={broken / 'artifacts'}"]), STAGES)
        if planned[stage].state != "done":
            kill_in_stage(broken, stage)
    saebias("run-all", *TINY, "-q", folder=broken)
    for table, columns in TABLES.items():
        sql = f"select {columns} from {table} order by all"
        assert ask(whole / "artifacts", sql) == ask(broken / "artifacts", sql), table


def test_a_second_run_recomputes_nothing_and_a_changed_k_only_what_depends_on_it(skewed_run: Path) -> None:
    folder = skewed_run.parent
    before = {path: path.stat().st_mtime_ns for path in skewed_run.rglob("*") if path.is_file() and "units" in path.parts}
    done = saebias("run-all", "-c", "quick", folder=folder)
    assert done.stderr.count("up to date") == len(STAGES)
    assert {path: path.stat().st_mtime_ns for path in skewed_run.rglob("*") if path.is_file() and "units" in path.parts} == before
    planned = plan(load_config(Path("quick"), ["train.k=16", f"runtime.artifacts={skewed_run}"]), STAGES)
    todo = {name for name, item in planned.items() if item.state != "done"}
    assert todo == {"train", *(name for name in planned if "train" in ancestors(planned, name))}
    assert {"prepare", "extract", "analyze.behavior", "mechanistic.lens", "mechanistic.probes"}.isdisjoint(todo)
