"""`saebias score`: planted files give the planted numbers, whatever is wrong in them is said, and the pipeline's runs are left alone."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saebias.cli.main import main
from saebias.config.load import load_config
from saebias.corpus.bench_labels import sample_captions
from saebias.corpus.label_files import CaptionRow
from saebias.corpus.prevalence import measured_quality
from saebias.pipeline.planning import plan
from saebias.pipeline.runner import run_stages
from saebias.report import SilentReporter
from saebias.stages import score_captions
from saebias.stages.registry import STAGES
from saebias.stages.score_captions import SCORE, chunks, scored_rows
from saebias.store.query import run_query

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
SAID = {
    ("en", "F"): "A woman rides a bicycle",
    ("en", "M"): "A man rides a bicycle",
    ("en", "N"): "A person rides a bicycle",
    ("en", "0"): "A bicycle near a wall",
    ("en", "X"): "A woman and a man ride",
    ("ar", "F"): "امرأة تركب دراجة",
    ("ar", "M"): "رجل يركب دراجة",
    ("ar", "0"): "دراجة قرب الجدار",
}


class Result:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of a JSON answer."""
        return json.loads(self.out)

    def value(self, measure: str, language: str = "en", side: str = "file", context: str | None = None) -> dict[str, Any]:
        """The one row of a measure."""
        (row,) = [r for r in self.rows if (r["measure"], r["language"], r["side"], r["context"]) == (measure, language, side, context)]
        return row


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path):
    """Run `saebias score` in this process with its artifacts in a folder of its own."""

    def run(*arguments: str | Path, command: str = "score") -> Result:
        monkeypatch.setattr(sys, "argv", ["saebias", command, *map(str, arguments), "--set", f"runtime.artifacts={tmp_path / 'artifacts'}"])
        with pytest.raises(SystemExit) as caught:
            main()
        written = capfd.readouterr()
        return Result(int(caught.value.code or 0), written.out, written.err)

    return run


def refused(result: Result) -> str:
    """The one line of an error that a person can act on."""
    assert result.code == 2 and not result.out, result.err
    (line,) = [line for line in result.err.splitlines() if line.startswith("saebias: ")]
    assert "Traceback" not in result.err
    return line


def planted() -> list[dict[str, str]]:
    """30 English captions of F, 50 of M, 20 of others; 10 Arabic ones of F and 30 of M; two captions a picture."""
    counts = {("en", "F"): 30, ("en", "M"): 50, ("en", "N"): 10, ("en", "0"): 6, ("en", "X"): 4, ("ar", "F"): 10, ("ar", "M"): 30}
    rows = [(language, label) for (language, label), n in counts.items() for _ in range(n)]
    return [
        {"text": SAID[key], "lang": key[0], "image": f"i{place // 2}", "job": "cook" if key[1] == "F" else "smith", "gold": key[1]}
        for place, key in enumerate(rows)
    ]


COLUMNS = ("--caption", "text", "--language-column", "lang", "--image-id", "image")


def written(tmp_path: Path, kind: str, rows: list[dict[str, str]], name: str = "captions") -> Path:
    """The rows as a file of one kind."""
    path = tmp_path / f"{name}.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_planted_file_gives_the_planted_shares(score, tmp_path: Path, kind: str) -> None:
    result = score(written(tmp_path, kind, planted()), *COLUMNS, "--format", "json")
    assert result.code == 0, result.err
    for label, hits in {"F": 30, "M": 50, "N": 10, "0": 6, "X": 4}.items():
        row = result.value(f"share {label}")
        assert (row["hits"], row["total"], row["value"]) == (hits, 100, hits / 100)
        assert row["low"] <= row["value"] <= row["high"]
    assert result.value("share F", "ar")["value"] == 0.25
    quality = measured_quality("ar", "F")
    corrected = (0.25 - 1 + quality.specificity) / (quality.sensitivity + quality.specificity - 1)
    assert result.value("share F, corrected", "ar")["value"] == pytest.approx(corrected)
    assert result.value("words per caption", "ar")["value"] == 3


def test_plain_lines_are_captions_of_one_language(score, tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text("\n".join([SAID["ar", "F"], SAID["ar", "M"], SAID["ar", "0"], SAID["ar", "F"]]) + "\n", encoding="utf-8")
    assert score(path, "--language", "ar", "--format", "json").value("share F", "ar")["value"] == 0.5


def test_contexts_and_references_are_summed_apart(score, tmp_path: Path) -> None:
    rows = planted()
    for row in rows[:10]:
        row["text"] = SAID["en", "M"]
    result = score(written(tmp_path, "csv", rows), *COLUMNS, "--context", "job", "--reference", "gold", "--format", "json")
    assert result.value("share F", context="cook")["value"] == pytest.approx(20 / 30)
    assert result.value("says M where the reference says F")["value"] == pytest.approx(10 / 30)
    assert result.value("says F where the reference says F", "ar")["value"] == 1.0
    captions = score(
        written(tmp_path, "csv", [row | {"gold": SAID[row["lang"], row["gold"]]} for row in rows], "other"), *COLUMNS, "--reference", "gold", "-fjson"
    )
    assert captions.value("says M where the reference says F")["value"] == pytest.approx(10 / 30), "a reference caption is read as its label is"


def test_what_cannot_be_labelled_is_set_aside_with_its_reason_and_counted(score, tmp_path: Path) -> None:
    path = tmp_path / "broken.csv"
    lines = [
        b"caption,language,image",
        b"A woman,en,1",
        b"A man\xff,en,2",
        "امرأة,en,3".encode(),
        b",en,4",
        b"A man,fr,5",
        b"A man,en,6,7",
        b"A man,en,\xfe",
        b"A man,en,8",
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    result = score(path, "--image-id", "image", "--format", "json")
    assert result.code == 0 and "6 of 8 rows were set aside" in result.err
    aside = next(row for row in result.rows if row["measure"] == "rows set aside")
    assert (aside["hits"], aside["total"]) == (6, 8)
    assert result.value("share F")["total"] == 2
    said = {row["row_number"]: row["problem"] for row in json.loads(score("score_left_out", "--format", "json", command="query").out)}
    for number, words in {2: "not UTF-8", 3: "'ar', not in 'en'", 4: "empty", 5: "neither en nor ar", 6: "4 fields", 7: "image id is not UTF-8"}.items():
        assert words in said[number]


def test_a_file_compared_with_itself_raises_the_alarm(score, tmp_path: Path) -> None:
    path = written(tmp_path, "csv", planted())
    result = score(path, *COLUMNS, "--compare", path, "--format", "json")
    alarms = [row for row in result.rows if row["measure"] == "alarm"]
    assert {row["language"] for row in alarms} == {"en", "ar"} and all("identical" in row["note"] for row in alarms)
    assert "identical" in result.err
    assert result.value("share F", side="difference")["value"] == 0


def test_a_planted_change_and_a_drift_of_length_are_found(score, tmp_path: Path) -> None:
    rows = planted()
    longer = [row | {"text": SAID["en", "N"] if row["gold"] == "F" and row["lang"] == "en" else f"{row['text']} on it today"} for row in rows]
    before, after = written(tmp_path, "csv", rows), written(tmp_path, "jsonl", longer, "after")
    result = score(before, *COLUMNS, "--compare", after, "--format", "json")
    found = result.value("share F", side="difference")
    assert found["value"] == pytest.approx(-0.3) and found["high"] < 0
    assert any("length changed" in row["note"] for row in result.rows if row["measure"] == "alarm")
    assert result.value("share F", side="compare")["value"] == 0


@pytest.mark.parametrize("what", [(), ("--audit",), ("--labels",)])
def test_csv_and_json_say_the_same(score, tmp_path: Path, what: tuple[str, ...]) -> None:
    path = written(tmp_path, "csv", planted())
    as_json = score(path, *COLUMNS, *what, "--format", "json").rows
    as_csv = list(csv.DictReader(io.StringIO(score(path, *COLUMNS, *what, "--format", "csv").out)))
    text = [{name: "" if v is None else json.dumps(v, ensure_ascii=False) if isinstance(v, list) else str(v) for name, v in row.items()} for row in as_json]
    assert as_json and as_csv == text


def test_the_audit_counts_every_matched_form(score, tmp_path: Path) -> None:
    forms = {(row["form"], row["gender"]): row["captions"] for row in score(written(tmp_path, "csv", planted()), *COLUMNS, "--audit", "-fjson").rows}
    assert forms["woman", "F"] == 34 and forms["man", "M"] == 54 and forms["رجل", "M"] == 30


def test_every_label_comes_with_its_evidence(score, tmp_path: Path) -> None:
    rows = score(written(tmp_path, "csv", planted()), *COLUMNS, "--labels", "--format", "json").rows
    assert [row["label"] for row in rows] == [row["gold"] for row in planted()]
    for row in rows:
        assert all(row["text"][mark["start"] : mark["end"]] == mark["surface"] for mark in row["evidence"])


def test_the_second_run_is_up_to_date_and_prints_the_same(score, tmp_path: Path) -> None:
    path = written(tmp_path, "csv", planted())
    first, second = score(path, *COLUMNS), score(path, *COLUMNS)
    assert "up to date" in second.err and first.out == second.out and "share F" in first.out
    assert "up to date" not in score(path, *COLUMNS[:4]).err, "other columns, other numbers"
    changed = tmp_path / "changed" / path.name
    changed.parent.mkdir()
    changed.write_text(path.read_text(encoding="utf-8").replace("A man rides", "A woman rides", 1), encoding="utf-8")
    assert "up to date" not in score(changed, *COLUMNS).err


def test_quiet_says_nothing_and_help_shows_an_example(score, tmp_path: Path) -> None:
    assert score(written(tmp_path, "csv", planted()), *COLUMNS, "-q").err == ""
    assert "Example: saebias score" in score("--help").out


def test_a_word_of_the_users_own_is_counted_and_makes_another_run(score, tmp_path: Path) -> None:
    rows = [{"caption": "A zorbeller rides", "language": "en"}] * 3
    path, lexicon = written(tmp_path, "csv", rows), tmp_path / "mine.tsv"
    lexicon.write_text("en\tzorbeller\tF\ts\tperson\tmine\n", encoding="utf-8")
    assert score(path, "--format", "json").value("share F")["value"] == 0
    assert score(path, "--format", "json", "--set", f"labels.extra_lexicon={lexicon}").value("share F")["value"] == 1
    other = tmp_path / "other.tsv"
    other.write_text("en\tzorbeller\tM\ts\tperson\tmine\n", encoding="utf-8")
    assert score(path, "--format", "json", "--set", f"labels.extra_lexicon={other}").value("share M")["value"] == 1


def test_the_users_words_reach_the_stages_that_label(tmp_path: Path) -> None:
    lexicon = tmp_path / "mine.tsv"
    lexicon.write_text("en\tzorbeller\tF\ts\tperson\tmine\n", encoding="utf-8")
    plain, with_words = plan(load_config(), STAGES), plan(load_config(None, [f"labels.extra_lexicon={lexicon}"]), STAGES)
    for name in ("prepare", "analyze.behavior"):
        assert lexicon in with_words[name].stage.inputs(load_config(None, [f"labels.extra_lexicon={lexicon}"]))
        assert plain[name].fingerprint != with_words[name].fingerprint


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.csv",), "no such file"),
        (("{csv}",), "no language"),
        (("{csv}", "--language", "fr"), "en and ar"),
        (("{csv}", "--language", "en", "--language-column", "lang"), "one of them"),
        (("{csv}", "--language", "en", "--caption", "txt"), "did you mean 'text'?"),
        (("{csv}", *COLUMNS, "--format", "xml"), "choose one of table, csv, json"),
        (("{csv}", *COLUMNS, "--compare", "gone.csv"), "gone.csv"),
        (("{csv}", *COLUMNS, "--set", "labels.extra_lexicon=gone.tsv"), "gone.tsv"),
        (("{csv}", *COLUMNS, "--set", "labels.extra=1"), "did you mean labels.extra_lexicon"),
        (("{txt}", "--language", "en", "--image-id", "image"), "plain lines have no columns"),
        (("{empty}", "--language", "en"), "holds no caption"),
        (("--benchmark", "{folder}"), "holds none of mt_geneval"),
        (("--benchmark", "gone"), "no such folder"),
        ((), "give one of them"),
    ],
)
def test_a_slip_is_one_line_and_exit_code_2(score, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    places = {"csv": written(tmp_path, "csv", planted()), "txt": tmp_path / "lines.txt", "empty": tmp_path / "none.txt", "folder": tmp_path}
    places["txt"].write_text("a woman\n")
    places["empty"].write_text("")
    assert said in refused(score(*(argument.format(**places) if argument[:1] == "{" else argument for argument in arguments)))


def test_a_file_in_the_other_language_is_refused_naming_what_it_is_written_in(score, tmp_path: Path) -> None:
    path = written(tmp_path, "csv", [{"caption": SAID["ar", "F"]}] * 4)
    assert "none of its 4 rows can be labelled (row 1: the caption is written in 'ar', not in 'en'" in refused(score(path, "--language", "en"))


def test_scoring_leaves_the_runs_that_the_views_show_alone(score, tmp_path: Path) -> None:
    """The pipeline's runs stay current, of whatever configuration they are; the score shown is the one asked for last."""
    artifacts = tmp_path / "artifacts"
    (artifacts / "prepare" / "aaaaaaaaaaaa").mkdir(parents=True)
    cfg = load_config(None, [f"runtime.artifacts={artifacts}"])
    shown = {"prepare": "prepare-aaaaaaaaaaaa", "train": "train-bbbbbbbbbbbb"}
    (artifacts / "current.json").write_text(json.dumps(shown))
    one, two = (written(tmp_path, "csv", planted()[:n], f"file{n}") for n in (20, 40))
    for path, n in ((one, 20), (two, 40), (one, 20)):
        assert score(path, *COLUMNS, "-q").code == 0
        current = json.loads((artifacts / "current.json").read_text())
        assert current.items() >= shown.items() and set(current) == {*shown, "score"}
        total = run_query(artifacts, "select total from score_summary join latest_runs using (run_id) where measure = 'rows set aside'")
        assert total["total"].to_pylist() == [n]
        assert run_query(artifacts, "select model from latest_runs where stage = 'score'")["model"].to_pylist() == [path.name]
    assert not {stage.name for stage in STAGES} & {"score", "score.benchmark"} and cfg.runtime.artifacts == artifacts


def test_broken_off_it_resumes_without_labelling_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_captions, "CHUNK_ROWS", 30)
    overrides = [f"score.file={written(tmp_path, 'csv', planted())}", "score.columns={caption: text, language: lang, image_id: image}"]
    whole, broken = (load_config(None, [*overrides, f"runtime.artifacts={tmp_path / name}"]) for name in ("whole", "broken"))
    for cfg in (whole, broken):
        run_stages(cfg, [SCORE], ["score"], SilentReporter())
    folder = plan(broken, [SCORE])["score"].folder
    (folder / "units" / "summary.json").unlink()
    (folder / "rows" / "scored_captions" / "file-000002.parquet").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in (folder / "rows" / "scored_captions").iterdir()}
    run_stages(broken, [SCORE], ["score"], SilentReporter())
    assert len(times) == 4 and all((folder / "rows" / "scored_captions" / name).stat().st_mtime_ns == time for name, time in times.items())
    query = "select * exclude (run_id) from score_summary order by place"
    assert run_query(tmp_path / "whole", query).to_pylist() == run_query(tmp_path / "broken", query).to_pylist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=6), st.sampled_from(["en", "ar"]))
def test_any_text_gets_a_label_and_any_evidence_is_in_it(texts: list[str], language: str) -> None:
    rows = [CaptionRow(number, text, language, str(number), None, None) for number, text in enumerate(texts)]
    scored = scored_rows(load_config(), "file", rows).to_pylist()
    assert [row["text"] for row in scored] == texts and all(row["label"] in ("F", "M", "N", "X", "0") for row in scored)
    assert all(row["text"][mark["start"] : mark["end"]] == mark["surface"] for row in scored for mark in json.loads(row["evidence"]))


def test_mixed_scripts_emoji_control_marks_and_endless_captions_are_no_crash(score, tmp_path: Path) -> None:
    texts = [
        "A woman قالت that she left",
        "👩‍🍳🚴‍♀️",
        "\u202eA man\u202c walks\u200f\u200e",
        "tab\tbell\x07null\x00 she",
        "\ufeffHer dog",
        "a woman and her dog " * 2_000,
        "ـــ",
        "e\u0301" * 50,
    ]
    path = written(tmp_path, "jsonl", [{"caption": text, "language": "en"} for text in texts])
    result = score(path, "--labels", "--format", "json")
    assert result.code == 0, result.err
    assert len(result.rows) == len(texts) and [row["label"] for row in result.rows if row["text"] == texts[5]] == ["F"]
    assert score(path).code == 0 and score(path, "--labels").code == 0


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_arabic_is_printed_whatever_encoding_stdout_claims(tmp_path: Path, format_: str) -> None:
    command = [sys.executable, "-m", "saebias", "score", str(written(tmp_path, "csv", planted())), *COLUMNS, "--audit", "--format", format_]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True)
    assert "امرأة" in done.stdout.decode("utf-8")


def test_long_captions_make_short_chunks() -> None:
    rows = [CaptionRow(number, "x" * 1_000_000, "en", str(number), None, None) for number in range(20)]
    assert max(sum(len(row.text) for row in chunk) for chunk in chunks(rows)) <= score_captions.CHUNK_CHARACTERS + 1_000_000
    assert [row for chunk in chunks(rows) for row in chunk] == rows


PEAK = """
import sys
from saebias.cli.main import main
sys.argv = ["saebias", *sys.argv[1:]]
try:
    main()
finally:
    # Not ru_maxrss: that is inherited from the process that started this one.
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


@pytest.mark.slow
def test_two_hundred_thousand_rows_need_little_more_memory_than_twenty_thousand(tmp_path: Path) -> None:
    def peak(rows: int) -> float:
        texts = sample_captions("en", 20_000, seed=rows)
        path = tmp_path / f"{rows}.parquet"
        pq.write_table(pa.table({"caption": [texts[row % 20_000] for row in range(rows)]}), path)
        command = [sys.executable, "-c", PEAK, "score", str(path), "--language", "en", "-q", "--format", "csv"]
        done = subprocess.run([*command, "--set", f"runtime.artifacts={tmp_path / str(rows)}"], capture_output=True, text=True, check=True)
        assert f",{rows}," in done.stdout
        return int(done.stderr.split()[-1]) / 1024

    small, large = peak(20_000), peak(200_000)
    assert large < 640, f"{large:.0f} MiB"
    assert large - small < 250, f"{small:.0f} MiB, then {large:.0f} MiB"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The rows of the benchmark, as a user gets them."""
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is absent: the public data with known gender is not beside this checkout")
    folder = tmp_path_factory.mktemp("benchmark")
    command = [sys.executable, "-m", "saebias", "score", "--benchmark", str(DATA.resolve()), "--format", "csv", "-q"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return list(csv.DictReader(io.StringIO(done.stdout)))


@pytest.mark.parametrize(("language", "label"), [("en", "F"), ("en", "M"), ("ar", "F"), ("ar", "M")])
def test_the_error_rates_that_correct_a_prevalence_are_those_of_the_unseen_half(benchmark: list[dict[str, str]], language: str, label: str) -> None:
    (row,) = [r for r in benchmark if (r["part"], r["language"], r["gender"], r["measure"]) == ("odd half (unseen)", language, label, "sentence accuracy")]
    quality = measured_quality(language, label)
    assert (int(row["hits"]), int(row["n"])) == (quality.found, quality.positives)


def test_the_table_in_the_readme_is_what_the_benchmark_prints(benchmark: list[dict[str, str]]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## How good are the labels")[2].partition("\n## ")[0]
    printed = {readme_line(row) for row in benchmark}
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith(("| data set", "| ---"))]
    assert len(lines) >= 25
    assert not [line for line in lines if line not in printed], "run `saebias score --benchmark` again and renew the table"


def readme_line(row: dict[str, str]) -> str:
    """One row of the README's table."""
    value, low, high = (f"{100 * float(row[name]):.1f}" for name in ("value", "low", "high"))
    return f"| {row['dataset']} | {row['part']} | {row['language']} | {row['gender']} | {row['measure']} | {int(row['n']):,} | {value} | {low} to {high} |"
