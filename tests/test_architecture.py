"""What holds for the whole tree: layers, sizes, and that the project speaks of itself alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "saebias").rglob("*.py"))


def test_modules_import_only_lower_layers() -> None:
    done = subprocess.run([str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 320, "split it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None and node.end_lineno - node.lineno <= 60, f"{node.name} is too long"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_functions_and_classes_say_what_they_give(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a module says what it is for"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def tracked_texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
    kinds = {".py", ".sql", ".md", ".toml", ".yaml", ".txt", ".jinja", ".css", ".tsv", ".json", ""}
    return [ROOT / name for name in listed if name and (ROOT / name).suffix in kinds and (ROOT / name).is_file()]


def test_no_path_of_a_machine_and_no_trace_of_how_it_was_built() -> None:
    paths = re.compile(r"/(?:work|home|root|Users)/\w")
    makers = re.compile(r"\b(?:ChatGPT|Copilot|Claude|language model wrote|AI-generated)\b", re.IGNORECASE)
    for path in tracked_texts():
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for pattern in (paths, makers):
            found = pattern.search(text)
            assert found is None, f"{path.relative_to(ROOT)}: {found[0] if found else ''}"


def test_no_torchvision_anywhere() -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
        assert not any("torchvision" in line for line in lines)


def test_everything_pinned_is_a_dependency_and_every_dependency_is_pinned() -> None:
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = project[project.index("dependencies = [") : project.index("[project.scripts]")]
    block = "\n".join(line for line in block.splitlines() if not line.lstrip().startswith("#"))
    named = {name.lower().replace("_", "-") for name in re.findall(r'"([A-Za-z][\w.-]*)', block)}
    assert named <= pinned, named - pinned
