"""Several workers at one run: each unit once, nothing lost, the same numbers as one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from saebias.cli.status import _units
from saebias.config.load import load_config
from saebias.config.schema import Config
from saebias.errors import ConfigError, InputError, MissingParent, StoreError
from saebias.pipeline.claims import SILENT_SECONDS, Crew
from saebias.pipeline.crews import WorkerSlot, parse_slot, slot_of_array
from saebias.pipeline.echo import Echo
from saebias.pipeline.monitor import live_states, sweep_live
from saebias.pipeline.planning import plan, read_run
from saebias.pipeline.processes import ProcessMark, this_process
from saebias.pipeline.runner import run_stages
from saebias.report import SilentReporter
from saebias.store.query import run_query
from tests.pipeline.test_runner import BOTH, Listening, answer, config, toy
from tests.pipeline.toy import TOYS, UNITS

ROOT = Path(__file__).parents[2]


def start(artifacts: Path, slot: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.pipeline.toy", str(artifacts), slot]
    return subprocess.Popen(command, env={**os.environ, **environment}, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=120)
    return process.returncode, out


def comes_true(holds: Callable[[], bool], what: object) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def appears(path: Path) -> None:
    comes_true(path.exists, path)


def _heed_interrupts() -> None:
    """What a shell starts in the background ignores SIGINT, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _workers(artifacts: Path) -> list[ProcessMark]:
    marks = [ProcessMark.from_json(state["process"]) for state in live_states(artifacts) if state["worker"] is not None]
    return [mark for mark in marks if mark is not None]


def folder_of(artifacts: Path) -> Path:
    return plan(config(artifacts), TOYS)["prepare"].folder


def parts(artifacts: Path) -> dict[str, bytes]:
    folder = folder_of(artifacts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    artifacts = tmp_path_factory.mktemp("whole")
    run_stages(config(artifacts), TOYS, ["prepare"], SilentReporter())
    return parts(artifacts)


def test_workers_do_each_unit_once_and_leave_the_bytes_of_one_process(tmp_path: Path, whole: dict[str, bytes]) -> None:
    workers = [start(tmp_path, f"{number}/3") for number in range(3)]
    assert [finished(worker)[0] for worker in workers] == [0, 0, 0]
    assert parts(tmp_path) == whole
    done = run_query(tmp_path, "select event from log_events where event like 'did %'")["event"].to_pylist()
    assert sorted(line.split()[1] for line in done) == UNITS
    record = read_run(folder_of(tmp_path))
    assert record is not None and record["status"] == "done" and sorted(record["units"]) == UNITS and record["cpu_seconds"] > 0
    assert not (folder_of(tmp_path) / "crew").exists()
    assert run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter()) == []


def test_a_killed_worker_is_replaced_by_the_others_at_once(tmp_path: Path, whole: dict[str, bytes]) -> None:
    killed = start(tmp_path, "1/2", TOY_DIE_AT="u1")
    assert finished(killed)[0] == -9
    started = time.monotonic()
    assert finished(start(tmp_path, "0/2"))[0] == 0
    assert time.monotonic() - started < SILENT_SECONDS
    assert parts(tmp_path) == whole


def test_a_worker_waits_for_a_unit_that_another_is_at_and_nothing_may_start_from_the_half_done_run(tmp_path: Path, whole: dict[str, bytes]) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    slow = start(tmp_path, "0/2", TOY_WAIT_AT="u2", TOY_READY=str(ready), TOY_GO=str(go))
    try:
        appears(ready)
        other = start(tmp_path, "1/2")
        for unit in ("u1", "u3"):
            appears(folder_of(tmp_path) / "units" / f"{unit}.json")
        code, said = finished(start(tmp_path, "0/2"))
        assert code == 2 and f"worker 0 is at work on this run already (pid {slow.pid}" in said and said.count("\n") == 1
        with pytest.raises(StoreError, match="already running"):
            run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter())
        with pytest.raises(MissingParent, match="is not finished"):
            run_stages(config(tmp_path), TOYS, ["extract"], SilentReporter())
        assert other.poll() is None
        # A process renews its state every second or so: what is done is seen there a little later.
        comes_true(lambda: [(state["worker"], state["units_total"]) for state in live_states(tmp_path)] == [(0, len(UNITS)), (1, len(UNITS))], "both workers")
        states = live_states(tmp_path)
        assert _units(states).startswith("3 of 4 units, ") and _units(states).endswith("2 workers alive (0, 1)") and " s left" in _units(states)
    finally:
        go.touch()
    assert finished(slow)[0] == 0 and finished(other)[0] == 0
    assert parts(tmp_path) == whole


def test_a_late_worker_finds_everything_done(tmp_path: Path) -> None:
    assert finished(start(tmp_path, "0/2"))[0] == 0
    before = read_run(folder_of(tmp_path))
    assert finished(start(tmp_path, "1/2"))[0] == 0
    assert read_run(folder_of(tmp_path)) == before


def test_a_stage_that_one_process_does_refuses_workers_and_so_does_force(tmp_path: Path) -> None:
    run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter())
    with pytest.raises(ConfigError, match=r"stage extract is done by one process; stages that workers can share here: prepare"):
        run_stages(config(tmp_path), TOYS, ["extract"], SilentReporter(), worker=WorkerSlot(0, 2))
    with pytest.raises(ConfigError, match="--worker with --force"):
        run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter(), worker=WorkerSlot(0, 2), force=True)


@pytest.mark.parametrize("text", ["2/2", "0/0", "-1/2", "1", "a/b", "1/2/3", ""])
def test_a_worker_that_is_not_i_of_n_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="i/n"):
        parse_slot(text)


def test_a_job_array_says_which_worker_this_is() -> None:
    array = {"SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_STEP": "2"}
    assert slot_of_array(array) == WorkerSlot(2, 3)
    assert slot_of_array({}) is None
    with pytest.raises(ConfigError, match="no numbers"):
        slot_of_array({**array, "SLURM_ARRAY_TASK_ID": "x"})


# The claims themselves.


def elsewhere(crew: Crew, number: int, unit: str, silent: float) -> None:
    """Worker `number` of another machine has `unit` and was last heard of `silent` seconds ago."""
    mark = replace(this_process(), place="another machine", host="other").as_json()
    crew.folder.mkdir(parents=True, exist_ok=True)
    for path, values in ((crew.folder / f"worker-{number}.json", {}), (crew.folder / f"unit-{unit}.json", {"unit": unit})):
        path.write_text(json.dumps({**values, "worker": number, **mark}))
        os.utime(path, (time.time() - silent, time.time() - silent))


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(tmp_path, 0, 2)
    with crew.alone():
        crew.enter()
    yield crew
    with crew.alone():
        crew.leave({})


def test_a_worker_takes_its_own_share_first_and_then_the_others_from_the_end(crew: Crew) -> None:
    units = [f"u{number}" for number in range(6)]
    assert list(crew.claim(units, {unit: place for place, unit in enumerate(units)}, lambda unit: False)) == ["u0", "u2", "u4", "u5", "u3", "u1"]


@pytest.mark.parametrize(("silent", "taken"), [(SILENT_SECONDS / 2, False), (SILENT_SECONDS * 2, True)])
def test_a_unit_of_another_machine_is_taken_over_when_its_worker_was_silent_for_the_stated_time(crew: Crew, silent: float, taken: bool) -> None:
    elsewhere(crew, 1, "u1", silent)
    asked = []

    def done(unit: str) -> bool:
        asked.append(unit)
        # The other worker finishes it after a while.
        return not taken and len(asked) > 3

    assert list(crew.claim(["u1"], {"u1": 1}, done)) == (["u1"] if taken else [])


def test_what_was_taken_over_is_not_written_by_its_first_holder(crew: Crew) -> None:
    assert list(crew.claim(["u1"], {"u1": 1}, lambda unit: False)) == ["u1"]
    crew.check("u1")
    elsewhere(crew, 1, "u1", 0.0)
    with pytest.raises(StoreError, match="another worker took it over"):
        crew.check("u1")


def test_a_process_that_was_given_the_number_of_a_dead_one_is_not_taken_for_it() -> None:
    mine = this_process()
    assert mine.runs and not replace(mine, started=mine.started - 60).runs
    assert ProcessMark.from_json(mine.as_json()) == mine


def test_state_files_of_killed_processes_are_swept_and_never_shown(tmp_path: Path) -> None:
    state = {"stage": "extract", "run_id": "r", "task": {}, "folder": "", "worker": None, "started": 0.0, "units_at_start": 0, "units_total": 1}
    mine = this_process()
    (tmp_path / "live").mkdir()
    for name, mark in {"alive": mine, "dead": replace(mine, started=mine.started - 60)}.items():
        (tmp_path / "live" / f"{name}.json").write_text(json.dumps({**state, "run_id": name, "written": time.time(), "process": mark.as_json()}))
    for name, process in {"odd": 3, "older": {"pid": 1}}.items():
        (tmp_path / "live" / f"{name}.json").write_text(json.dumps({**state, "run_id": name, "written": time.time(), "process": process}))
    assert [state["run_id"] for state in live_states(tmp_path)] == ["alive"]
    sweep_live(tmp_path)
    assert [path.stem for path in (tmp_path / "live").iterdir()] == ["alive"]


# Workers that this program starts itself.


def test_what_workers_log_is_said_once_whatever_line_one_was_killed_in(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    old = json.dumps({"event": "before", "level": "info"}) + "\n"
    logs = [tmp_path / "log" / f"worker-{number}.log" for number in range(2)]
    logs[0].write_text(old)
    listening = Listening()
    echo = Echo(tmp_path, listening)
    said = "".join(json.dumps({"event": event, "level": level}) + "\n" for event, level in (("a", "info"), ("b", "warning"), ("c", "error")))
    for log in logs:
        with log.open("a") as stream:
            stream.write(said + '{"event": "torn')
        echo.read()
    with logs[0].open("a") as stream:
        stream.write("\n" + json.dumps({"event": "d", "level": "info"}) + "\n")
    echo.read()
    assert listening.said == ["a", "b", "d"]


def employing(artifacts: Path, engine: str = "local", workers: int = 2) -> Config:
    return config(artifacts, f"runtime.workers={workers}", f"runtime.engine={engine}")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_an_employed_worker_that_is_killed_is_started_again_and_the_bytes_are_the_same(
    tmp_path: Path, whole: dict[str, bytes], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(engine) if engine == "ray" else None
    monkeypatch.setenv("TOY_DIE_AT", "u1")
    monkeypatch.setenv("TOY_DIED", str(tmp_path / "died"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    listening = Listening()
    run_stages(employing(tmp_path, engine), TOYS, BOTH, listening)
    assert parts(tmp_path) == whole
    # Where the other has taken the unit over, or has done everything, before the loss is noticed, that is said instead.
    assert sum("was lost at" in line for line in listening.said) == 1, listening.said
    assert any(line.startswith("did u3") for line in listening.said), "what the workers say is passed on"
    one = tmp_path / "one"
    run_stages(config(one), TOYS, BOTH, SilentReporter())
    assert answer(tmp_path) == answer(one)
    assert not live_states(tmp_path) and not (folder_of(tmp_path) / "crew").exists()


@pytest.mark.slow
def test_workers_that_die_again_and_again_are_given_up_and_finished_units_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_DIE_AT", "u1")
    with pytest.raises(StoreError, match="killed again and again"):
        run_stages(employing(tmp_path), TOYS, ["prepare"], SilentReporter())
    record = read_run(folder_of(tmp_path))
    assert record is not None and record["status"] == "failed" and record["units"]
    monkeypatch.delenv("TOY_DIE_AT")
    run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter())
    assert plan(config(tmp_path), TOYS)["prepare"].state == "done"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_employed_workers_end_with_the_process_that_started_them_and_leave_no_lock_behind(tmp_path: Path, whole: dict[str, bytes], how: signal.Signals) -> None:
    ready, go = tmp_path / "ready", tmp_path / "never"
    environment = {**os.environ, "TOY_WAIT_AT": "u2", "TOY_READY": str(ready), "TOY_GO": str(go), "TOY_WORKERS": "2"}
    command = [sys.executable, "-m", "tests.pipeline.toy", str(tmp_path)]
    parent = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts)
    try:
        appears(ready)
        # A worker says that it lives a moment after it began.
        comes_true(lambda: len(_workers(tmp_path)) == 2, "both workers")
        workers = _workers(tmp_path)
        parent.send_signal(how)
        # Ends when the last process that could say something has ended: the watcher over named locks outlives the workers.
        _, said = parent.communicate(timeout=120)
    finally:
        parent.kill()
    assert parent.returncode != 0 and "leaked" not in said
    comes_true(lambda: not any(worker.runs for worker in workers), "the workers' end")
    record = read_run(folder_of(tmp_path))
    assert record is not None and record["status"] == ("stopped" if how == signal.SIGINT else "running")
    run_stages(config(tmp_path), TOYS, ["prepare"], SilentReporter())
    assert parts(tmp_path) == whole


def test_the_block_for_one_worker_may_be_entered_again_inside(crew: Crew) -> None:
    with crew.alone(), crew.alone():
        crew.others()
    with crew.alone():
        pass


@pytest.mark.slow
def test_an_error_of_a_worker_is_the_error_of_the_run_and_the_other_units_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAIL_AT", "u1")
    with pytest.raises(InputError, match="the reason at u1"):
        run_stages(employing(tmp_path), TOYS, ["prepare"], SilentReporter())
    assert sorted(path.stem for path in (folder_of(tmp_path) / "units").iterdir()) == ["u0", "u2", "u3"]


def test_without_ray_its_engine_names_the_command_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install \"ray"):
        run_stages(employing(tmp_path, "ray"), TOYS, ["prepare"], SilentReporter())


def test_workers_and_engine_never_enter_a_fingerprint(tmp_path: Path) -> None:
    one, two = plan(config(tmp_path), TOYS), plan(employing(tmp_path, "ray", 5), TOYS)
    assert {name: item.fingerprint for name, item in one.items()} == {name: item.fingerprint for name, item in two.items()}


def test_a_run_killed_with_a_worker_in_it_is_resumed_by_one_process(tmp_path: Path, whole: dict[str, bytes]) -> None:
    assert finished(start(tmp_path, "0/2", TOY_DIE_AT="u2"))[0] == -9
    assert (folder_of(tmp_path) / "crew").exists()
    assert toy(tmp_path).returncode == 0
    assert parts(tmp_path) == whole and not (folder_of(tmp_path) / "crew").exists()
    assert load_config(None, []).runtime.workers == 1
