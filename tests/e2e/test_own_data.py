"""A researcher's own table goes through every stage; what it lacks is left out and said."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from saebias.store.query import run_query
from tests.conftest import Ask, saebias

pytestmark = pytest.mark.slow

SMALL = ["-c", "quick", "-q"]
SMALL += [
    part
    for override in ("data.source=table", "data.table=mine.csv", "data.near_duplicates=false", "extract.layers=2", "train.max_rows=4000", "steer.images=20")
    for part in ("--set", override)
]


def write_table(folder: Path, artifacts: Path, columns: str, n: int) -> None:
    """The pictures and captions of the quick run as somebody's own table."""
    rows = run_query(artifacts, f"select {columns} from samples order by hash(sample_id) limit {n}").to_pylist()
    with (folder / "mine.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_full_table_gives_the_same_answers_as_the_demonstration(tmp_path: Path, skewed_run: Path, ask: Ask) -> None:
    write_table(tmp_path, skewed_run, "image_path as image, caption_en, caption_ar, context, visual_gender, cluster_id as cluster, concept", 400)
    continuations = run_query(skewed_run, "select context, language, gender, text from continuations order by all").to_pylist()
    with (tmp_path / "continuations.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(continuations[0]))
        writer.writeheader()
        writer.writerows(continuations)
    columns = [f"data.columns.{name}={name}" for name in ("context", "visual_gender", "cluster", "concept")]
    extra = [part for override in (*columns, "data.continuations=continuations.csv") for part in ("--set", override)]
    saebias("run-all", *SMALL, *extra, folder=tmp_path)
    mine = tmp_path / "artifacts"
    sql = "select context, language, value from behavior_metrics join current_runs using (run_id) where metric = 'p_female' order by context, language"
    theirs, ours = ask(mine, sql), ask(skewed_run, sql)
    assert [(row["context"], row["language"]) for row in theirs] == [(row["context"], row["language"]) for row in ours]
    assert [row["value"] for row in theirs] == pytest.approx([row["value"] for row in ours], abs=1e-5)
    assert (mine / "report" / "index.html").stat().st_size > 100_000
    assert ask(mine, "select count(*) as n from steering_random_sets")[0]["n"] > 0


def test_a_table_of_pictures_and_captions_alone_is_carried_to_the_end_and_says_what_is_missing(tmp_path: Path, skewed_run: Path, ask: Ask) -> None:
    write_table(tmp_path, skewed_run, "image_path as image, caption_en, caption_ar", 160)
    done = saebias("run-all", *SMALL, folder=tmp_path)
    assert "their captions do" in done.stderr and "left out" in done.stderr
    mine = tmp_path / "artifacts"
    shown = {row["visual_gender"]: row["n"] for row in ask(mine, "select visual_gender, count(*) as n from samples group by 1")}
    assert shown["F"] > 10 and shown["M"] > 5
    outcomes = ask(mine, "select distinct metric from behavior_metrics where metric like 'outcome%'")
    assert outcomes and not ask(mine, "select * from behavior_metrics where metric = 'stereotype_spread'")
    report = (mine / "report" / "index.html").read_text(encoding="utf-8")
    assert "left out" in report
