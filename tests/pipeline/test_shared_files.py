"""A small file that all units need is made by the stage: damaged, it costs no unit unless it comes out otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebias.errors import StoreError
from saebias.pipeline.planning import plan
from saebias.pipeline.runner import run_stages
from saebias.pipeline.stage import Stage, StageContext
from saebias.pipeline.verifying import verify_runs
from saebias.report import SilentReporter
from tests.pipeline.test_runner import config

UNITS = ["u0", "u1", "u2"]
DAMAGE = ["gone", "torn", "flipped", "empty"]


def stage(description: str) -> Stage:
    """Units that each write a file of their own and name the description that all of them share."""

    def run(ctx: StageContext) -> None:
        shared = ctx.folder / "files" / "form.json"
        shared.parent.mkdir(parents=True, exist_ok=True)
        if not shared.exists():
            shared.write_text(description)
        for unit in ctx.claimed(ctx.pending(UNITS)):
            with ctx.unit(unit) as out:
                own = out.folder / f"{unit}.txt"
                own.write_text(unit)
                out.keep([own])
                out.keep([shared], shared=True)

    return Stage(name="prepare", run=run, help="", parallel=True)


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"torn": content[:-1], "flipped": bytes([content[0] ^ 4]) + content[1:], "empty": b""}[how])


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in [*folder.glob("units/*.json"), *folder.glob("files/*.txt")]}


@pytest.mark.parametrize("verified", [False, True])
@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_it_is_made_again_and_every_unit_stays(tmp_path: Path, how: str, verified: bool) -> None:
    stages, cfg = (stage("the form"),), config(tmp_path)
    run_stages(cfg, stages, ["prepare"], SilentReporter())
    folder = plan(cfg, stages)["prepare"].folder
    shared, before = folder / "files" / "form.json", times(folder)
    spoil(shared, how)
    item = plan(cfg, stages)["prepare"]
    assert item.state == "partial" and "files/form.json" in item.reason
    for _ in range(2 * verified):
        with pytest.raises(StoreError, match=rf"^prepare files/form\.json: {shared} [^,]*; `saebias prepare` makes "):
            verify_runs(plan(cfg, stages), ["prepare"], SilentReporter())
    assert len(run_stages(cfg, stages, ["prepare"], SilentReporter())) == 1
    assert shared.read_text() == "the form" and times(folder) == before
    assert run_stages(cfg, stages, ["prepare"], SilentReporter()) == []
    verify_runs(plan(cfg, stages), ["prepare"], SilentReporter())


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("other", ["another form", "the farm"])
def test_where_it_comes_out_otherwise_every_unit_is_done_again(tmp_path: Path, how: str, other: str) -> None:
    cfg = config(tmp_path)
    run_stages(cfg, (stage("the form"),), ["prepare"], SilentReporter())
    folder = plan(cfg, (stage("the form"),))["prepare"].folder
    before = times(folder)
    spoil(folder / "files" / "form.json", how)
    run_stages(cfg, (stage(other),), ["prepare"], SilentReporter())
    assert all(when != before[name] for name, when in times(folder).items())
    assert run_stages(cfg, (stage(other),), ["prepare"], SilentReporter()) == []
    verify_runs(plan(cfg, (stage(other),)), ["prepare"], SilentReporter())


def test_a_damaged_unit_beside_it_is_named_too_and_made_again_alone(tmp_path: Path) -> None:
    stages, cfg = (stage("the form"),), config(tmp_path)
    run_stages(cfg, stages, ["prepare"], SilentReporter())
    folder = plan(cfg, stages)["prepare"].folder
    before = times(folder)
    spoil(folder / "files" / "form.json", "flipped")
    spoil(folder / "files" / "u1.txt", "flipped")
    with pytest.raises(StoreError, match=r"^prepare u1: .*u1\.txt is not what was written .*, and 1 more: prepare files/form\.json; "):
        verify_runs(plan(cfg, stages), ["prepare"], SilentReporter())
    run_stages(cfg, stages, ["prepare"], SilentReporter())
    assert {name for name, when in times(folder).items() if when != before[name]} == {"u1.json", "u1.txt"}
    verify_runs(plan(cfg, stages), ["prepare"], SilentReporter())
