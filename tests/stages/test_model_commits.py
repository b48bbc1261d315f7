"""A hub model that nobody pinned: said, remembered, and refused when it moved on; number formats that the processor lacks are said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saebias.config.load import load_config
from saebias.errors import ModelError, StoreError
from saebias.stages.model_access import open_model
from saebias.stages.model_commits import MEMORY, first_commit, unpinned_warning
from saebias.stages.model_formats import computes_bfloat16, format_advice
from saebias.vlm.loading import from_parts
from tests.vlm.families import build_family
from tests.vlm.test_loading import _cached

COMMITS = ("0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef")


def test_a_hub_model_that_moved_on_is_refused_in_the_folder_that_its_former_self_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    _cached(build_family("llama"), tmp_path, "someone/tiny", COMMITS[0])
    unpinned = ["model.name=someone/tiny", f"runtime.artifacts={tmp_path / 'artifacts'}", "runtime.threads=1"]
    first = open_model(load_config(None, unpinned))
    said = unpinned_warning(first)
    assert said is not None and f"commit {COMMITS[0]} was loaded" in said and f"set model.revision={COMMITS[0]}" in said
    open_model(load_config(None, unpinned))
    base = tmp_path / "models--someone--tiny"
    (base / "snapshots" / COMMITS[0]).rename(base / "snapshots" / COMMITS[1])
    (base / "refs" / "main").write_text(COMMITS[1])
    with pytest.raises(ModelError, match=rf"another revision of someone/tiny \(commit {COMMITS[0]}; .* {COMMITS[1]}\); set model\.revision={COMMITS[0]} "):
        open_model(load_config(None, unpinned))
    pinned = open_model(load_config(None, [*unpinned, f"model.revision={COMMITS[1]}"]))
    assert pinned.digest == COMMITS[1] and unpinned_warning(pinned) is None
    open_model(load_config(None, [*unpinned, f"runtime.artifacts={tmp_path / 'elsewhere'}"]))


RECORDER = """
import sys
from pathlib import Path
from saebias.stages.model_commits import first_commit

artifacts, number = Path(sys.argv[1]), sys.argv[2]
(artifacts / f"ready-{number}").touch()
while not (artifacts / "go").exists():
    pass
print(*(first_commit(artifacts, name, f"by-{number}") for turn in range(100) for name in (f"one/m{turn}-{number}", f"all/m{turn}")))
"""


def test_processes_that_record_commits_at_once_lose_none_and_agree_on_who_came_first(tmp_path: Path) -> None:
    here = Path(__file__).parents[2]
    recorders = [
        subprocess.Popen([sys.executable, "-c", RECORDER, str(tmp_path), str(number)], stdout=subprocess.PIPE, cwd=here, text=True) for number in range(3)
    ]
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"ready-{number}").exists() for number in range(3)) and time.monotonic() < deadline:
        time.sleep(0.02)
    (tmp_path / "go").touch()
    told = [process.communicate(timeout=120)[0].split() for process in recorders]
    assert [process.returncode for process in recorders] == [0, 0, 0]
    known = json.loads((tmp_path / MEMORY).read_text())
    assert set(known) == {f"{owner}/m{turn}{end}" for turn in range(100) for owner, end in (("all", ""), *(("one", f"-{n}") for n in range(3)))}
    for number, answers in enumerate(told):
        assert answers == [known[name] for turn in range(100) for name in (f"one/m{turn}-{number}", f"all/m{turn}")]
        assert all(known[f"one/m{turn}-{number}"] == f"by-{number}" for turn in range(100))


def test_a_damaged_record_of_commits_is_refused_and_a_folder_that_needs_none_is_not_written(tmp_path: Path) -> None:
    assert first_commit(tmp_path, "one", "a") == "a"
    (tmp_path / f".{MEMORY}.lock").unlink()
    assert first_commit(tmp_path, "one", "b") == "a"
    assert [path.name for path in tmp_path.iterdir()] == [MEMORY]
    (tmp_path / MEMORY).write_text('{"one": "a"')
    with pytest.raises(StoreError, match=rf"^{tmp_path / MEMORY}: is damaged, .*; delete it "):
        first_commit(tmp_path, "one", "a")


def test_a_model_of_a_folder_is_known_by_its_content_and_needs_no_pin(tmp_path: Path) -> None:
    assert unpinned_warning(replace(build_family("llama"), name=str(tmp_path))) is None


NEW, OLD, ARM = "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", "flags\t\t: fpu avx2\n", "Features\t: fp asimd bf16\n"


def test_what_a_processor_says_of_bfloat16_is_read() -> None:
    assert [computes_bfloat16(text) for text in (NEW, OLD, ARM, "")] == [True, False, True, None]


def test_a_format_that_is_slow_here_is_said() -> None:
    built = build_family("llama")

    def advice(dtype: torch.dtype, processor: str) -> str | None:
        import copy

        return format_advice(from_parts(copy.deepcopy(built.model).to(dtype), built.tokenizer, name="tiny"), processor)

    assert "no instructions for bfloat16" in str(advice(torch.bfloat16, OLD))
    assert "overflows above 65,504" in str(advice(torch.float16, NEW))
    # Nothing is said of a small model, or of what is not known.
    assert [advice(torch.bfloat16, NEW), advice(torch.bfloat16, ""), advice(torch.float32, NEW), advice(torch.float32, OLD)] == [None] * 4
