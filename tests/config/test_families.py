"""Every shipped configuration loads, and the part of it that `extract` reads runs on a tiny model of its family."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from saebias.config.load import load_config
from saebias.paths import configs_folder
from saebias.pipeline.runner import run_stages
from saebias.report import SilentReporter
from saebias.stages.registry import STAGES
from saebias.store.parts import read_rows
from tests.vlm.families import build_family

FAMILIES = {
    "gemma3-4b": "gemma3",
    "paligemma": "paligemma",
    "qwen2-vl": "qwen2_vl",
    "qwen2.5-vl": "qwen2_5_vl",
    "llava": "llava",
    "llama-3.2-vision": "mllama",
    "smolvlm": "smolvlm",
    "gemma3-text": "gemma3_text",
    "llama-text": "llama",
    "qwen-text": "qwen2",
}
OURS = ("gemma3-270m", "smollm2", "mini-gemma3")


def test_every_shipped_configuration_loads_and_no_other_is_there() -> None:
    names = {path.stem for path in configs_folder().glob("*.yaml")}
    assert names >= {*FAMILIES, *OURS}
    for name in names:
        cfg = load_config(Path(name))
        if name in FAMILIES:
            assert cfg.model.revision is None or len(cfg.model.revision) == 40
            assert cfg.model.accept_license is None, "terms are the user's to accept"
    for name in OURS:
        cfg = load_config(Path(name))
        assert cfg.model.name.startswith("saebias:")
        assert cfg.model.accept_license is None, "terms are the user's to accept"


def _saved(family: str, folder: Path, *, with_template: bool) -> Path:
    loaded = build_family(family)
    loaded.model.save_pretrained(folder)
    if loaded.processor is None:
        loaded.tokenizer.save_pretrained(folder)
        return folder
    processor = loaded.processor
    if with_template and processor.chat_template is None:
        processor.chat_template = loaded.tokenizer.chat_template.replace("IMAGE_SLOT", processor.image_token)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_extraction_as_configured_runs_on_a_tiny_model_of_the_family(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    if family == "smolvlm" and find_spec("num2words") is None:
        family = "idefics3"  # the same inputs; only the processor's class needs the package
    folder = _saved(family, tmp_path / "model", with_template=load_config(Path(name)).model.chat_template)
    small = [f"model.name={folder}", "model.dtype=float32", "data.n=6", "extract.layers=2", "extract.shard_rows=4096", f"runtime.artifacts={tmp_path / 'out'}"]
    planned = run_stages(load_config(Path(name), small), STAGES, ["prepare", "extract"], SilentReporter())
    extract = next(item for item in planned if item.stage.name == "extract")
    status = read_rows(extract.folder, "extract_status").to_pylist()
    assert {row["status"] for row in status} == {"done"}
    assert {row["language"] for row in status} == {"en", "ar"}
    tokens = read_rows(extract.folder, "token_rows").to_pylist()
    kinds = {row["token_kind"] for row in tokens}
    has_image_tokens = family not in ("mllama", "gemma3_text", "llama", "qwen2")
    assert ("image" in kinds) == has_image_tokens
    assert any(row["decision"] for row in tokens)
