"""What `query` prints: whole at any width, quiet when its reader goes away, in the format that the file's ending names."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from saebias.cli.main import main
from saebias.cli.tables import print_rows
from saebias.config.load import load_config
from saebias.pipeline.runner import run_stages
from saebias.report import SilentReporter
from tests.pipeline.toy import TOYS

NAMES = ["sample", "caption", "share", "reason"]
NUMERIC = [False, False, True, False]
ROWS = [["s1", "a woman cooks in a small kitchen while it rains outside", "0.12345678", "صورة امرأة تطبخ في المطبخ"], ["s2", "-", "-1", "x" * 90]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifacts = tmp_path_factory.mktemp("measured") / "artifacts"
    run_stages(load_config(None, [f"runtime.artifacts={artifacts}"]), TOYS, ["prepare", "extract"], SilentReporter())
    return artifacts


def query(measured: Path, *arguments: str, shell: str = "") -> subprocess.CompletedProcess[str]:
    words = shlex.join(arguments)
    command = f"set -o pipefail; {sys.executable} -m saebias query {words} --set runtime.artifacts={measured} {shell}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env={**os.environ}, cwd=Path(__file__).parents[2], check=False)


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_a_reader_that_goes_away_is_met_with_silence_and_success(measured: Path, format_: str) -> None:
    done = query(measured, "select range as n, repeat('x', 200) as text from range(20000)", "--format", format_, shell="| head -2")
    assert done.returncode == 0 and done.stderr.replace("20000 rows\n", "") == "", done.stderr
    assert done.stdout.count("\n") == 2


@pytest.mark.parametrize("width", [20, 40, 80, 120, 300])
def test_no_terminal_is_too_narrow_for_a_whole_answer(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_rows(NAMES, NUMERIC, ROWS)
    # Colours take no room.
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    letters = "".join(letter for letter in printed if letter.isalnum())
    for row in ROWS:
        for value in row:
            if width >= 300:
                assert value in printed
            words = value.split() if len(value) < 90 else [value[:10]]
            assert all("".join(c for c in word if c.isalnum())[:8] in letters for word in words), (value, printed)
    assert letters.count("x") >= 90 and "…" not in printed and "0.12345678" in printed
    assert max(len(line) for line in printed.splitlines()) <= width


def test_away_from_a_terminal_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(NAMES, NUMERIC, [[value * 4 for value in row] for row in ROWS])
    printed = capsys.readouterr().out
    assert "x" * 360 in printed and len(printed.splitlines()) == 6


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_the_ending_of_a_file_names_its_format(measured: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / f"answer.{ending}"
    monkeypatch.setattr(sys, "argv", ["saebias", "query", "select 1 as a, 'x' as b", "-o", str(out), "--set", f"runtime.artifacts={measured}"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    read = {
        "csv": lambda: [{**row, "a": int(row["a"])} for row in csv.DictReader(io.StringIO(out.read_text()))],
        "json": lambda: json.loads(out.read_text()),
        "parquet": lambda: pq.read_table(out).to_pylist(),
    }
    assert read[ending]() == [{"a": 1, "b": "x"}]


def test_an_ending_that_names_no_format_is_refused_unless_the_format_is_given(measured: Path, tmp_path: Path) -> None:
    done = query(measured, "select 1 as a", "-o", str(tmp_path / "answer.xls"))
    assert done.returncode == 2 and ".parquet" in done.stderr and not (tmp_path / "answer.xls").exists()
    assert query(measured, "select 1 as a", "-o", str(tmp_path / "answer.txt"), "-f", "csv").returncode == 0
    assert (tmp_path / "answer.txt").read_text() == "a\n1\n"
