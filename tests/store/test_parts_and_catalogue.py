"""Parts are facts, the catalogue can always be built again, and a query can do nothing but read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saebias.config.load import load_config
from saebias.errors import InputError, StoreError
from saebias.pipeline.planning import plan
from saebias.pipeline.runner import run_stages
from saebias.report import SilentReporter
from saebias.store.catalogue import catalogue_path, fold
from saebias.store.files import replacing, write_text
from saebias.store.parts import UnitWriter, damage, read_rows
from saebias.store.query import named_queries, resolve, run_query
from saebias.store.tables import arrow_schemas, to_arrow
from tests.pipeline.toy import TOYS

ROW = {"context": "cook", "language": "ar", "gender": "F", "text": "طباخة تقف"}
EVERYTHING = "select source, row_number, value from sample_problems order by all"


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    run_stages(load_config(None, [f"runtime.artifacts={tmp_path}"]), TOYS, ["prepare", "extract"], SilentReporter())
    return tmp_path


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    writer = UnitWriter(tmp_path, "u", ("continuations",))
    writer.rows("continuations", [ROW])
    assert damage(tmp_path, "u") == "not done"
    assert read_rows(tmp_path, "continuations").num_rows == 0, "a part without a manifest is not a fact yet"
    writer.finish()
    assert damage(tmp_path, "u") is None
    assert read_rows(tmp_path, "continuations").to_pylist() == [ROW]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"gender": 3}, "column gender"), ({"extra": 1}, "no column extra"), ({"text": None, "language": object()}, "column language")],
)
def test_a_row_that_does_not_fit_names_table_and_column(change: dict[str, object], said: str) -> None:
    with pytest.raises(StoreError, match=said):
        to_arrow("continuations", [{**ROW, **change}])


def test_a_missing_column_is_an_error_and_never_null() -> None:
    with pytest.raises(StoreError, match="needs column text"):
        to_arrow("continuations", [{k: v for k, v in ROW.items() if k != "text"}])


def test_the_catalogue_can_be_deleted_and_comes_back_equal(artifacts: Path) -> None:
    before = run_query(artifacts, EVERYTHING).to_pylist()
    catalogue_path(artifacts).unlink()
    assert run_query(artifacts, EVERYTHING).to_pylist() == before != []


def test_a_torn_catalogue_is_built_again(artifacts: Path) -> None:
    before = run_query(artifacts, EVERYTHING).to_pylist()
    catalogue_path(artifacts).write_bytes(b"not a database")
    assert run_query(artifacts, EVERYTHING).to_pylist() == before


def test_folding_twice_changes_nothing(artifacts: Path) -> None:
    before = run_query(artifacts, "select count(*) n from runs").to_pylist()
    fold(artifacts)
    assert run_query(artifacts, "select count(*) n from runs").to_pylist() == before


def test_an_open_reader_keeps_its_snapshot_while_a_run_goes_on(artifacts: Path) -> None:
    with duckdb.connect(str(catalogue_path(artifacts)), read_only=True) as reader:
        run_stages(load_config(None, [f"runtime.artifacts={artifacts}", "train.k=9"]), TOYS, ["prepare", "extract"], SilentReporter())
        assert reader.execute("select count(*) from extract_status").fetchone() == (1,)
    assert run_query(artifacts, "select count(*) n from extract_status").to_pylist() == [{"n": 2}]


def test_a_catalogue_held_by_another_program_still_answers_and_runs_go_on(artifacts: Path) -> None:
    before = run_query(artifacts, EVERYTHING).to_pylist()
    code = f"import duckdb, sys; c = duckdb.connect({str(catalogue_path(artifacts))!r}); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert run_query(artifacts, EVERYTHING).to_pylist() == before
        run_stages(load_config(None, [f"runtime.artifacts={artifacts}", "train.k=9"]), TOYS, ["prepare", "extract"], SilentReporter())
        assert run_query(artifacts, "select count(*) n from extract_status").to_pylist() == [{"n": 2}]
    finally:
        holder.communicate("")


def test_a_part_that_does_not_fit_its_table_names_the_file(artifacts: Path) -> None:
    folder = plan(load_config(None, [f"runtime.artifacts={artifacts}"]), TOYS)["extract"].folder
    part = folder / "rows" / "extract_status" / "total.parquet"
    table = pq.read_table(part)
    bad = table.set_column(table.schema.get_field_index("status"), "status", pa.array(["maybe"]))
    pq.write_table(bad, part)
    catalogue_path(artifacts).unlink()
    with pytest.raises(StoreError, match=r"total\.parquet: does not fit table extract_status"):
        fold(artifacts)
    assert not catalogue_path(artifacts).exists()


def test_a_run_taken_from_disk_is_taken_out_of_the_catalogue(artifacts: Path) -> None:
    folder = plan(load_config(None, [f"runtime.artifacts={artifacts}"]), TOYS)["extract"].folder
    (folder / "run.json").unlink()
    fold(artifacts)
    assert run_query(artifacts, "select count(*) n from extract_status").to_pylist() == [{"n": 0}]


@pytest.mark.parametrize(
    "sql",
    [
        "delete from runs",
        "select 1; select 2",
        "attach 'x.db'",
        "copy runs to 'x.csv'",
        "pragma version",
        "",
        "selct 1",
        "create table x as select 1",
        "install httpfs",
        "set threads = 1",
    ],
)
def test_anything_but_one_select_is_refused_in_one_line(artifacts: Path, sql: str) -> None:
    with pytest.raises(InputError) as caught:
        run_query(artifacts, sql)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sql", ["select * from read_csv('/etc/passwd')", "select * from '/etc/passwd'", "select * from read_text('/etc/hostname')", "select * from glob('/etc/*')"]
)
def test_a_query_cannot_touch_files(artifacts: Path, sql: str) -> None:
    with pytest.raises(InputError):
        run_query(artifacts, sql)


def test_nothing_measured_yet_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing was measured here yet"):
        run_query(tmp_path, "select 1")


def test_an_unknown_named_query_gets_the_nearest_name() -> None:
    name = next(iter(named_queries()))
    with pytest.raises(InputError, match=f"did you mean {name}"):
        resolve(name[:-1] + "_", {})


def test_a_file_is_replaced_wholly_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_clear_line_and_finished_units_stay(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted by this user")
    try:
        first = UnitWriter(tmp_path, "first", ("continuations",))
        first.rows("continuations", [ROW])
        first.finish()
        noise = np.random.default_rng(0).integers(0, 2**16, 400_000)
        rows = [{**ROW, "text": str(number)} for number in noise]
        with pytest.raises(StoreError, match="the disk is full") as caught:
            UnitWriter(tmp_path, "second", ("continuations",)).rows("continuations", rows)
        assert "\n" not in str(caught.value)
        assert damage(tmp_path, "first") is None
        assert not list(tmp_path.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_every_table_and_column_is_lower_case_and_every_table_is_described() -> None:
    with duckdb.connect() as connection:
        from saebias.store.tables import schema_statements

        for statement in schema_statements():
            connection.execute(statement)
        rows = connection.execute("select table_name, comment from duckdb_tables()").fetchall()
    assert {name for name, _ in rows} == set(arrow_schemas())
    assert all(comment for _, comment in rows)
    assert all(name == name.lower() for schema in arrow_schemas().values() for name in schema.names)


def test_a_damaged_run_of_another_configuration_does_not_hide_the_others(artifacts: Path) -> None:
    run_stages(load_config(None, [f"runtime.artifacts={artifacts}", "train.k=9"]), TOYS, ["prepare", "extract"], SilentReporter())
    old = plan(load_config(None, [f"runtime.artifacts={artifacts}"]), TOYS)["extract"].folder
    (old / "rows" / "extract_status" / "total.parquet").write_bytes(b"junk")
    catalogue_path(artifacts).unlink()
    assert run_query(artifacts, "select n_rows from extract_status").to_pylist() == [{"n_rows": 9}]
