"""Models that read text alone: what asks about pictures says so in one line, and is left out where it is one stage of many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saebias.cli.stages import run_group
from saebias.config.load import load_config
from saebias.errors import ConfigError, NotEnoughData
from saebias.stages.model_access import needs_pictures, prompts, refuse_text_only
from saebias.stages.registry import STAGES


def _model(folder: Path, **config: object) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return f"model.name={folder}"


def test_a_model_is_known_to_see_by_its_vision_part(tmp_path: Path) -> None:
    seeing, reading = _model(tmp_path / "seeing", vision_config={}), _model(tmp_path / "reading")
    assert needs_pictures(load_config(None, [seeing])) is None
    assert needs_pictures(load_config()) is None
    assert needs_pictures(load_config(Path("mini-gemma3"))) is None
    for overrides in ([reading], ["model.name=saebias:smollm2"], ["model.name=saebias:gemma3-270m"]):
        cfg = load_config(None, overrides)
        with pytest.raises(NotEnoughData, match=r"reads text only.*choose a captioner in model\.name") as error:
            refuse_text_only(cfg)
        assert "\n" not in str(error.value)
        assert all("{image}" not in prompt for prompt in prompts(cfg).values())


def test_a_hub_model_is_known_by_its_cached_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cfg = load_config(None, ["model.name=someone/reads"])
    assert needs_pictures(cfg) is None, "nothing is known of it yet"
    base = tmp_path / "models--someone--reads"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("0" * 40)
    (base / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (base / "snapshots" / ("0" * 40) / "config.json").write_text("{}")
    assert needs_pictures(cfg) is not None


def test_stages_that_ask_about_pictures_are_unfit_and_the_others_are_not() -> None:
    cfg = load_config(None, ["model.name=saebias:smollm2"])
    unfit = {stage.name for stage in STAGES if stage.unfit(cfg) is not None}
    assert unfit >= {"analyze.behavior", "steer", "mechanistic.attribution", "mechanistic.patching"}
    assert not unfit & {"prepare", "extract", "train", "analyze.features", "mechanistic.lens", "mechanistic.probes", "mechanistic.alignment", "plot"}
    assert all(stage.unfit(load_config()) is None for stage in STAGES)


def test_asked_for_by_itself_such_a_stage_is_an_error_of_one_line(tmp_path: Path) -> None:
    overrides = ["model.name=saebias:smollm2", f"runtime.artifacts={tmp_path}"]
    with pytest.raises(ConfigError, match=r"^steer: saebias:smollm2 reads text only") as error:
        run_group("steer", None, overrides, (), force=False, dry_run=False, quiet=True)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
