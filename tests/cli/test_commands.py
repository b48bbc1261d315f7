"""The command line as a user meets it: help everywhere, one line and exit code 2 for what a person can put right."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from saebias import mechanistic
from saebias.cli.main import main
from saebias.errors import ConfigError
from saebias.stages.registry import STAGES, TOOL_PARTS
from saebias.stages.threads import usable_device

COMMANDS = ["prepare", "extract", "train", "analyze", "steer", "plot", "mechanistic", "run-all", "query", "status"]


class Result:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def saebias(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a command in this process with its artifacts in a folder of its own."""

    def run(*arguments: str) -> Result:
        words = list(arguments)
        if words and words[0] in COMMANDS and "--help" not in words:
            words += ["--set", f"runtime.artifacts={tmp_path / 'artifacts'}"]
        monkeypatch.setattr(sys, "argv", ["saebias", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        written = capfd.readouterr()
        return Result(int(caught.value.code or 0), written.out, written.err)

    return run


def refused(result: Result) -> str:
    """The one line of an error that a person can act on."""
    assert result.code == 2, result
    lines = [line for line in result.err.splitlines() if line.startswith("saebias: ")]
    assert len(lines) == 1 and "Traceback" not in result.err, result.err
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(saebias, command: str) -> None:
    result = saebias(command, "--help")
    assert result.code == 0 and f"Example: saebias {command}" in result.out


def test_help_of_mechanistic_lists_every_part_and_each_tool_has_one(saebias) -> None:
    parts = [stage.name.partition(".")[2] for stage in STAGES if stage.group == "mechanistic"]
    said = " ".join(saebias("mechanistic", "--help").out.split())
    assert f"Parts: {', '.join(parts)};" in said
    assert set(TOOL_PARTS) | {"HookPoint", "ActivationCache"} == set(mechanistic.__all__)
    assert set(TOOL_PARTS.values()) <= {stage.name for stage in STAGES}
    for tool in ("FactoredMatrix", "logitlens"):
        assert "prepare" in refused(saebias("mechanistic", "--only", tool)), "known, and says what is missing first"


def test_help_imports_no_torch() -> None:
    code = "import sys\nsys.argv = ['saebias', '--help']\nfrom saebias.cli.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "sys.exit(1 if {'torch', 'transformers', 'duckdb', 'numpy', 'pydantic'} & set(sys.modules) else 0)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prepare", "--set", "train.kk=3"), "did you mean train.k?"),
        (("prepare", "--set", "train.k=many"), "train.k"),
        (("prepare", "-c", "nowhere.yaml"), "no such configuration file"),
        (("extract",), "run `saebias prepare"),
        (("steer",), "first, or `saebias run-all"),
        (("mechanistic", "--only", "lenss"), "no such part"),
        (("query", "select 1"), "nothing was measured here yet"),
        (("query", "skewed_profesions"), "did you mean skewed_professions"),
        (("query", "select 1", "--format", "xml"), "choose one of table, csv, json, parquet"),
        (("query", "skewed_professions", "--param", "topp=3"), "has no parameter topp"),
        (("query", "skewed_professions", "--param", "top"), "KEY=VALUE"),
        (("prepare", "--set", "data.source=table", "--set", "data.table=nowhere.csv"), "nowhere.csv"),
        (("prepare", "--set", "data.captioner=unknown"), "no captioner spec"),
        (("extract", "--set", "model.name=saebias:unknown"), "saebias:unknown"),
        (("extract", "--set", "runtime.device=foo"), "choose auto, cpu, cuda or cuda:N (it is 'foo')"),
        (("extract", "--set", "runtime.device=cuda:x"), "choose auto, cpu, cuda or cuda:N"),
        (("extract", "--worker", "2/2"), "--worker 0/4"),
        (("train", "--worker", "one"), "--worker 0/4"),
        (("extract", "--set", "runtime.workers=0"), "runtime.workers"),
        (("extract", "--set", "runtime.engine=dask"), "runtime.engine"),
    ],
)
def test_a_slip_is_one_line_and_exit_code_2(saebias, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(saebias(*arguments))
    assert not list((tmp_path / "artifacts").rglob("*.parquet")), "nothing half-written"


def table_of(tmp_path: Path, rows: list[dict[str, str]], name: str = "mine.csv") -> Path:
    """A user's table with two small real pictures beside it."""
    for number in range(12):
        Image.new("RGB", (40, 40), (20 * number, 255 - 20 * number, 7 * number % 256)).save(tmp_path / f"{number}.png")
    path = tmp_path / name
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def good_rows() -> list[dict[str, str]]:
    contexts = ["cook", "judge", "pilot", "singer"]
    return [
        {
            "image": f"{number}.png",
            "caption_en": f"A person number {number}.",
            "caption_ar": f"شخص يقف هنا {number}",
            "context": contexts[number % 4],
            "visual_gender": "FMA"[number % 3],
        }
        for number in range(12)
    ]


def test_a_users_table_is_prepared_and_its_bad_rows_are_kept_with_reasons(saebias, tmp_path: Path) -> None:
    rows = good_rows()
    rows[3]["image"] = "missing.png"
    rows[5]["caption_ar"] = "latin letters only"
    path = table_of(tmp_path, rows)
    (tmp_path / "7.png").write_bytes((tmp_path / "7.png").read_bytes()[:40])
    result = saebias("prepare", "--set", "data.source=table", "--set", f"data.table={path}", "--set", "data.near_duplicates=false")
    assert result.code == 0, result.err
    problems = json.loads(saebias("query", "select row_number, reason from sample_problems order by row_number", "--format", "json").out)
    assert [row["row_number"] for row in problems] == [4, 6, 8] and all(row["reason"] for row in problems)
    assert json.loads(saebias("query", "select count(*) as n from samples", "--format", "json").out) == [{"n": 9}]
    exported = next((tmp_path / "artifacts").rglob("samples.csv"))
    assert len(list(csv.DictReader(exported.open(encoding="utf-8")))) == 9


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: [{"picture": row["image"], "caption_en": row["caption_en"]} for row in rows], "image"),
        (lambda rows: [{**row, "sample": "same"} for row in rows], "same"),
        (lambda rows: [{**row, "image": "gone.png"} for row in rows], "none of its 12 rows can be used"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(saebias, tmp_path: Path, spoil, said: str) -> None:
    rows = spoil(good_rows())
    path = table_of(tmp_path, rows)
    extra = ["--set", "data.columns.sample_id=sample"] if "sample" in rows[0] else []
    assert said in refused(saebias("prepare", "--set", "data.source=table", "--set", f"data.table={path}", *extra))


def test_an_empty_table_is_said(saebias, tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("image,caption_en,caption_ar\n")
    assert "no rows" in refused(saebias("prepare", "--set", "data.source=table", "--set", f"data.table={path}"))


def test_a_dry_run_writes_nothing_and_names_every_stage(saebias, tmp_path: Path) -> None:
    result = saebias("run-all", "--dry-run")
    assert result.code == 0
    for stage in ("prepare", "extract", "train", "analyze.behavior", "analyze.features", "steer", "mechanistic.lens", "plot"):
        assert stage in result.out
    assert "free" in result.out and not (tmp_path / "artifacts").exists()


def test_a_dry_run_of_a_part_says_what_must_be_run_before_it(saebias) -> None:
    result = saebias("mechanistic", "--only", "contrast", "--dry-run")
    assert result.code == 0 and "mechanistic.alignment" in result.out
    assert "! mechanistic.contrast needs stages prepare, extract, train, analyze.features" in result.out and "saebias prepare" in result.out


def test_a_dry_run_says_that_the_model_is_missing_and_how_to_get_it(saebias, tmp_path: Path) -> None:
    result = saebias("run-all", "--dry-run", "--set", "model.name=nobody/nothing")
    assert result.code == 0 and "hf download nobody/nothing" in result.out and "extract" in result.out
    result = saebias("run-all", "--dry-run", "--set", f"model.name={tmp_path / 'nowhere'}")
    assert result.code == 0 and "nowhere does not exist" in result.out.replace("\n", " ")
    assert "!" not in saebias("run-all", "--dry-run").out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"runtime.device=cuda: there is no GPU to compute on .*; set runtime.device=auto or cpu"):
        usable_device("cuda")
    assert usable_device("cpu") == "cpu"


def test_a_job_array_shares_what_can_be_shared_and_leaves_the_rest_as_it_is(saebias, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "x")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    assert "SLURM_ARRAY_TASK_ID" in refused(saebias("extract"))
    assert "first, or `saebias run-all" in refused(saebias("analyze"))


def test_status_says_what_is_running_on_which_gpu_if_any(saebias) -> None:
    assert "GPU" in saebias("status").out


@pytest.fixture
def prepared(saebias, tmp_path: Path):
    """A prepared corpus to ask."""
    path = table_of(tmp_path, good_rows())
    assert saebias("prepare", "--set", "data.source=table", "--set", f"data.table={path}", "--set", "data.near_duplicates=false").code == 0
    return saebias


def test_answers_come_as_csv_json_and_parquet_with_the_same_rows(prepared, tmp_path: Path) -> None:
    sql = "select sample_id, caption_ar from samples order by all"
    as_json = json.loads(prepared("query", sql, "--format", "json").out)
    as_csv = list(csv.DictReader(io.StringIO(prepared("query", sql, "--format", "csv").out)))
    assert prepared("query", sql, "--format", "parquet", "--out", str(tmp_path / "out.parquet")).code == 0
    assert as_json == as_csv == pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(as_json) == 12 and "شخص" in as_json[0]["caption_ar"]


@pytest.mark.parametrize("sql", ["drop table runs", "select * from read_csv('/etc/passwd')", "select 1; select 2", "selec 1"])
def test_a_query_that_is_not_one_select_is_refused(prepared, sql: str) -> None:
    refused(prepared("query", sql))


def test_bare_query_lists_the_named_ones_and_status_shows_what_is_done(prepared, tmp_path: Path) -> None:
    listed = prepared("query").out
    for name in ("bias_summary", "skewed_professions", "top_latents", "steering", "timing"):
        assert name in listed
    table = ("--set", "data.source=table", "--set", f"data.table={tmp_path / 'mine.csv'}", "--set", "data.near_duplicates=false")
    assert "done" in prepared("status", *table).out
    assert "done" not in prepared("status").out, "another configuration was never run"


def test_the_log_of_a_run_can_be_asked(prepared) -> None:
    events = json.loads(prepared("query", "select event from log_events", "--format", "json").out)
    assert any("samples" in row["event"] for row in events)


def test_a_reader_that_stops_early_is_no_error(prepared, tmp_path: Path) -> None:
    command = f"{sys.executable} -m saebias query 'select * from samples' --format csv --set runtime.artifacts={tmp_path / 'artifacts'} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env={**os.environ}, check=False)
    assert "Traceback" not in done.stderr and done.stdout.startswith("run_id")


def test_columns_of_one_name_and_numbers_that_json_lacks_lose_nothing(prepared) -> None:
    sql = "select 'x' as a, 'y' as a, 'nan'::double as b"
    assert list(csv.reader(io.StringIO(prepared("query", sql, "--format", "csv").out))) == [["a", "a", "b"], ["x", "y", "nan"]]
    assert json.loads(prepared("query", sql, "--format", "json").out) == [{"a": "x", "a_2": "y", "b": None}]


def test_text_that_looks_like_markup_is_printed_as_it_is(prepared) -> None:
    shown = prepared("query", "select '[/x] [bold]b[/bold] :x:' as a").out
    assert "[/x] [bold]b[/bold] :x:" in shown
