"""The runner: skips, resumes, refuses, records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from saebias.config.load import load_config
from saebias.config.schema import Config
from saebias.errors import ConfigError, MissingParent, StoreError
from saebias.pipeline.planning import plan, select_stages
from saebias.pipeline.runner import run_stages
from saebias.pipeline.stage import Stage, StageContext
from saebias.report import SilentReporter
from saebias.store.query import run_query
from tests.pipeline.toy import NUMBERS, TOTAL, TOYS, UNITS

BOTH = ["prepare", "extract"]
RESULT = "select sample_id, n_rows from extract_status join current_runs using (run_id)"


class Listening(SilentReporter):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, message: str, **fields: object) -> None:
        self.said.append(message)

    warn = info


def config(artifacts: Path, *overrides: str) -> Config:
    return load_config(None, [f"runtime.artifacts={artifacts}", *overrides])


def toy(artifacts: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.pipeline.toy", str(artifacts)]
    return subprocess.run(command, env={**os.environ, **environment}, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)


def answer(artifacts: Path) -> list[dict[str, object]]:
    return run_query(artifacts, RESULT).to_pylist()


def test_what_is_up_to_date_is_not_run_again(tmp_path: Path) -> None:
    assert [item.stage.name for item in run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())] == BOTH
    assert run_stages(config(tmp_path), TOYS, BOTH, SilentReporter()) == []


def test_a_changed_slice_runs_only_what_depends_on_it(tmp_path: Path) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    ran = run_stages(config(tmp_path, "train.k=5"), TOYS, BOTH, SilentReporter())
    assert [item.stage.name for item in ran] == ["extract"]
    assert answer(tmp_path)[0]["n_rows"] == 5


def test_two_configurations_keep_their_results_apart(tmp_path: Path) -> None:
    run_stages(config(tmp_path, "train.k=5"), TOYS, BOTH, SilentReporter())
    run_stages(config(tmp_path, "train.k=6"), TOYS, BOTH, SilentReporter())
    assert run_query(tmp_path, "select n_rows from extract_status order by 1")["n_rows"].to_pylist() == [5, 6]
    assert run_stages(config(tmp_path, "train.k=5"), TOYS, BOTH, SilentReporter()) == []
    assert answer(tmp_path)[0]["n_rows"] == 5


def test_runtime_settings_never_enter_a_fingerprint(tmp_path: Path) -> None:
    one = plan(config(tmp_path), TOYS)
    two = plan(config(tmp_path / "elsewhere", "runtime.batch_size=3", "runtime.threads=1"), TOYS)
    assert {n: p.fingerprint for n, p in one.items()} == {n: p.fingerprint for n, p in two.items()}


def test_a_higher_stage_version_is_another_run(tmp_path: Path) -> None:
    newer = Stage(**{**{f: getattr(NUMBERS, f) for f in NUMBERS.__dataclass_fields__}, "version": 2})
    before, after = plan(config(tmp_path), TOYS), plan(config(tmp_path), (newer, TOTAL))
    assert before["prepare"].fingerprint != after["prepare"].fingerprint
    assert before["extract"].fingerprint != after["extract"].fingerprint


@pytest.mark.parametrize("unit", UNITS)
def test_killed_in_the_middle_it_resumes_to_the_same_numbers(tmp_path: Path, unit: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert toy(whole).returncode == 0
    assert toy(broken, TOY_DIE_AT=unit).returncode == -9
    listening = Listening()
    run_stages(config(broken), TOYS, BOTH, listening)
    assert answer(broken) == answer(whole)
    done = UNITS.index(unit)
    assert not done or any(f"{done} of {len(UNITS)} units are done already" in line for line in listening.said)


def test_a_damaged_file_makes_only_its_unit_pending_and_says_so(tmp_path: Path) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    before = answer(tmp_path)
    folder = plan(config(tmp_path), TOYS)["prepare"].folder
    part = folder / "rows" / "sample_problems" / "u1.parquet"
    times = {path.name: path.stat().st_mtime_ns for path in part.parent.iterdir()}
    part.write_bytes(part.read_bytes()[:-7])
    listening = Listening()
    run_stages(config(tmp_path), TOYS, BOTH, listening)
    assert any("u1" in line and "doing this unit again" in line for line in listening.said)
    changed = {path.name for path in part.parent.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert changed == {"u1.parquet"}
    assert answer(tmp_path) == before


def test_force_does_it_again_from_nothing_with_the_same_numbers(tmp_path: Path) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    before = answer(tmp_path)
    ran = run_stages(config(tmp_path), TOYS, BOTH, SilentReporter(), force=True)
    assert [item.stage.name for item in ran] == BOTH
    assert answer(tmp_path) == before


def test_checkpoints_outlive_a_killed_attempt_and_not_force(tmp_path: Path) -> None:
    assert toy(tmp_path, TOY_DIE_AT="u0").returncode == -9
    checkpoint = plan(config(tmp_path), TOYS)["prepare"].folder / "checkpoints" / "u0.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter())
    assert checkpoint.exists()
    run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter(), force=True)
    assert not checkpoint.exists()


def test_a_missing_parent_names_the_command_to_type(tmp_path: Path) -> None:
    with pytest.raises(MissingParent, match=r"run `saebias prepare` first") as caught:
        run_stages(config(tmp_path), TOYS, ["extract"], SilentReporter())
    assert "\n" not in str(caught.value)


def test_all_missing_commands_are_named_in_order_with_the_options_given(tmp_path: Path) -> None:
    last = replace(TOTAL, name="analyze.last", needs=("extract",), reads=())
    with pytest.raises(MissingParent, match=r"run `saebias prepare -c mine.yaml && saebias extract -c mine.yaml` first, or `saebias run-all -c mine.yaml`"):
        run_stages(config(tmp_path), (*TOYS, last), ["analyze.last"], SilentReporter(), options=" -c mine.yaml")


def test_a_part_that_stands_on_another_part_of_its_command_brings_it_along(tmp_path: Path) -> None:
    parts = (replace(NUMBERS, name="look.numbers"), replace(TOTAL, name="look.total", needs=("look.numbers",)))
    ran = run_stages(config(tmp_path), parts, ["look.total"], SilentReporter())
    assert [item.stage.name for item in ran] == ["look.numbers", "look.total"]
    # What is there already is not done again, not even with force: that is of what was asked for.
    ran = run_stages(config(tmp_path), parts, ["look.total"], SilentReporter(), force=True)
    assert [item.stage.name for item in ran] == ["look.total"]


def test_a_second_process_on_the_same_run_is_told_who_is_at_it(tmp_path: Path) -> None:
    artifacts, ready, go = tmp_path / "artifacts", tmp_path / "ready", tmp_path / "go"
    environment = {**os.environ, "TOY_WAIT_AT": "u2", "TOY_READY": str(ready), "TOY_GO": str(go)}
    first = subprocess.Popen([sys.executable, "-m", "tests.pipeline.toy", str(artifacts)], env=environment, cwd=Path(__file__).parents[2])
    try:
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(StoreError, match=rf"already running \(pid {first.pid}\)"):
            run_stages(config(artifacts), TOYS, BOTH, SilentReporter())
    finally:
        go.touch()
        assert first.wait(30) == 0
    assert run_stages(config(artifacts), TOYS, BOTH, SilentReporter()) == []


def test_a_stage_may_write_only_its_own_tables(tmp_path: Path) -> None:
    def greedy(ctx: StageContext) -> None:
        with ctx.unit("u") as out:
            out.rows("samples", [])

    with pytest.raises(StoreError, match="does not own"):
        run_stages(config(tmp_path), (Stage(name="prepare", run=greedy, help="", tables=("images",)),), ["prepare"], SilentReporter())


def test_a_failed_stage_is_recorded_with_its_reason_and_finished_units_stay(tmp_path: Path) -> None:
    def fails(ctx: StageContext) -> None:
        with ctx.unit("good") as out:
            out.rows("sample_problems", [])
        raise StoreError("the reason")

    with pytest.raises(StoreError, match="the reason"):
        run_stages(config(tmp_path), (Stage(name="prepare", run=fails, help="", tables=("sample_problems",)),), ["prepare"], SilentReporter())
    assert run_query(tmp_path, "select status from runs")["status"].to_pylist() == ["failed"]
    assert run_query(tmp_path, "select unit from units")["unit"].to_pylist() == ["good"]
    events = run_query(tmp_path, "select level, event from log_events").to_pylist()
    assert any(row["level"] == "error" and "the reason" in row["event"] for row in events)


def test_every_run_records_its_time_rows_and_memory(tmp_path: Path) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    for row in run_query(tmp_path, "select * from runs").to_pylist():
        assert row["status"] == "done" and row["seconds"] > 0 and row["n_rows"] > 0 and row["peak_memory_mib"] > 10
        assert json.loads(row["config"])["train"]["k"] == 32


def test_seeds_depend_on_seed_stage_and_unit_alone(tmp_path: Path) -> None:
    def context(stage: Stage, *overrides: str) -> StageContext:
        return StageContext(config(tmp_path, *overrides), stage, "", tmp_path, {}, {}, SilentReporter())

    seeds = {context(stage, f"seed={seed}").seed(unit) for stage in TOYS for seed in (1, 2) for unit in UNITS}
    assert len(seeds) == 2 * 2 * len(UNITS)
    assert context(NUMBERS).seed("u0") == context(NUMBERS, "train.k=3", "runtime.threads=2").seed("u0")


def test_only_names_what_there_is() -> None:
    assert select_stages(TOYS, "extract", ["extract"]) == ["extract"]
    with pytest.raises(ConfigError, match="no such part"):
        select_stages(TOYS, "extract", ["lens"])
    assert select_stages(TOYS, "extract", ["theextractor"], {"TheExtractor": "extract"}) == ["extract"]
    with pytest.raises(ConfigError, match="--only TheExtractor: no such part"):
        select_stages(TOYS, "extract", ["TheExtractor"], {"TheExtractor": "nowhere"})


def test_a_parent_that_was_run_again_to_the_same_bytes_leaves_its_children_up_to_date(tmp_path: Path) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    for _ in range(2):
        run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter(), force=True)
        assert run_stages(config(tmp_path), TOYS, BOTH, SilentReporter()) == []


def test_while_a_parent_is_not_finished_its_children_are_not_up_to_date(tmp_path: Path) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    part = plan(config(tmp_path), TOYS)["prepare"].folder / "rows" / "sample_problems" / "u2.parquet"
    part.unlink()
    assert toy(tmp_path, TOY_DIE_AT="u2").returncode == -9
    planned = plan(config(tmp_path), TOYS)
    assert (planned["prepare"].state, planned["extract"].state) == ("partial", "stale")
    assert [item.stage.name for item in run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())] == ["prepare"]


def test_a_stage_runs_again_when_what_it_reads_over_the_head_of_its_parent_is_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(ctx: StageContext) -> None:
        for unit in ctx.pending(["same"]):
            with ctx.unit(unit):
                pass

    stages = (NUMBERS, Stage(name="between", run=nothing, help="", needs=("prepare",)), replace(TOTAL, needs=("between",)))
    names = [stage.name for stage in stages]
    run_stages(config(tmp_path), stages, names, SilentReporter())
    before = answer(tmp_path)
    monkeypatch.setenv("TOY_OTHER", "u3")
    run_stages(config(tmp_path), stages, ["prepare"], SilentReporter(), force=True)
    assert [item.stage.name for item in run_stages(config(tmp_path), stages, names, SilentReporter())] == names[1:]
    assert answer(tmp_path) != before


@pytest.mark.parametrize("older", BOTH)
def test_of_a_record_of_an_earlier_version_the_time_decides(tmp_path: Path, older: str) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    path = plan(config(tmp_path), TOYS)[older].folder / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key not in ("outputs", "parents_outputs")}))
    assert run_stages(config(tmp_path), TOYS, BOTH, SilentReporter()) == []
    run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter(), force=True)
    assert plan(config(tmp_path), TOYS)["extract"].state == ("stale" if older == "extract" else "done")


def test_a_parent_that_was_run_again_to_other_outputs_makes_its_children_run_again_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    monkeypatch.setenv("TOY_OTHER", "u3")
    run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter(), force=True)
    planned = plan(config(tmp_path), TOYS)
    assert planned["prepare"].state == "done" and planned["extract"].state == "stale" and "run again" in planned["extract"].reason
    assert [item.stage.name for item in run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())] == ["extract"]
    assert plan(config(tmp_path), TOYS)["extract"].state == "done"


@pytest.mark.parametrize("name", ["run.json", "units/u1.json"])
@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"a": 1}', "\x00\x01"])
def test_a_file_of_ours_with_anything_in_it_is_made_again(tmp_path: Path, name: str, text: str) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    before = answer(tmp_path)
    (plan(config(tmp_path), TOYS)["prepare"].folder / name).write_text(text)
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    assert answer(tmp_path) == before


def test_a_torn_line_of_a_log_is_passed_over_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    folder = plan(config(tmp_path), TOYS)["prepare"].folder
    with (folder / "log" / "run.log").open("ab") as stream:
        stream.write(b'{"at": "2026", "lev\xff')
    (folder / "units" / "u2.json").unlink()
    run_stages(config(tmp_path), TOYS, BOTH, SilentReporter())
    assert any("3 of 4 units are done already" in row["event"] for row in run_query(tmp_path, "select event from log_events").to_pylist())
