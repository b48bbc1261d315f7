import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from saebias.captioner.__main__ import main
from saebias.captioner.captions import caption_text
from saebias.captioner.gates import check_gates
from saebias.captioner.packing import caption_cross_entropy, caption_table
from saebias.captioner.scenes import plan_scenes, render_scene
from saebias.captioner.shipped import NAMES, shipped_model
from saebias.captioner.spec import LANGUAGES, load_spec
from saebias.captioner.tokenizer import build_tokenizer
from saebias.errors import InputError, ModelError


@pytest.fixture(scope="module")
def tables(skewed):
    return {language: caption_table(skewed, language, build_tokenizer(skewed)) for language in LANGUAGES}


def test_an_untrained_captioner_fails_every_gate(untrained, skewed):
    report = check_gates(untrained, skewed, n_images=32)
    assert not report.passed
    assert {row.passed for row in report.gates if row.low is not None} == {False}


def test_targets_are_distributions_and_the_drawn_token_is_among_them(tables):
    for table in tables.values():
        sums = table.target_shares.sum(-1)
        assert np.all((np.abs(sums - 1) < 1e-6) | (sums == 0))
        drawn = (table.target_ids[:, :-1] == table.ids[..., None]) & (table.target_shares[:, :-1] > 0)
        assert np.array_equal(drawn.any(-1), sums[:, :-1] > 0)


def test_a_model_that_is_the_plant_has_no_excess(tables):
    table = tables["en"]
    logits = torch.full((*table.target_ids.shape[:2], 600), -40.0)
    logits.scatter_(2, torch.from_numpy(table.target_ids), torch.log(torch.from_numpy(table.target_shares).clamp(min=1e-20)))
    cross_entropy, floor = caption_cross_entropy(logits, torch.from_numpy(table.target_ids), torch.from_numpy(table.target_shares))
    assert torch.allclose(cross_entropy, floor, atol=1e-4)


def test_drawn_rows_follow_the_planted_shares(tables, skewed):
    table = tables["ar"]
    cell = (0, 2, 0)
    drawn = table.draw(np.tile(cell, (20_000, 1)), np.random.default_rng(0))
    assert (drawn == table.rows[cell][0]).mean() == pytest.approx(skewed.contexts[0].p_ar, abs=0.015)


def test_gates_refuse_a_seed_that_training_used(untrained, skewed):
    with pytest.raises(InputError, match="training seeds"):
        check_gates(untrained, skewed, seed=skewed.training.data_seed)


def test_an_unknown_packaged_captioner_is_an_error():
    with pytest.raises(ModelError, match="skewed, null"):
        shipped_model("amplified")


def test_the_command_says_what_to_add_when_a_folder_has_no_provenance(tmp_path, capsys):
    assert main(["gates", str(tmp_path)]) == 2
    assert "--spec" in capsys.readouterr().err


def test_the_command_exits_with_1_when_a_gate_fails(untrained, capsys):
    assert main(["gates", str(untrained), "--spec", "skewed", "--images", "32"]) == 1
    assert "some gates FAILED" in capsys.readouterr().out


def test_the_packaged_captioners_fit_in_16_megabytes():
    assert sum(file.stat().st_size for name in NAMES for file in shipped_model(name).iterdir()) < 16_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_packaged_captioner_was_made_from_the_packaged_spec(name):
    record = json.loads((shipped_model(name) / "provenance.json").read_text(encoding="utf-8"))
    assert record["spec_digest"] == load_spec(name).digest()
    assert all(row["passed"] is not False for row in record["gates"])


@pytest.mark.parametrize("name", NAMES)
def test_the_packaged_captioner_loads_like_a_hub_model_and_names_what_is_in_clear_pictures(name):
    spec = load_spec(name)
    model = AutoModelForImageTextToText.from_pretrained(shipped_model(name), local_files_only=True).eval()
    processor = AutoProcessor.from_pretrained(shipped_model(name), local_files_only=True)
    scenes = plan_scenes(spec, 16, 990_003, ambiguous_share=0.0)
    right = 0
    for language in LANGUAGES:
        texts, images = [f"<start_of_image>{spec.prompt(language)}"] * len(scenes), [[render_scene(scene, spec)] for scene in scenes]
        inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
        captions = processor.batch_decode(model.generate(**inputs)[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        truth = [caption_text(spec.context(scene.context), scene.gender, scene.object, language, spec) for scene in scenes]
        right += sum(caption.strip() == text for caption, text in zip(captions, truth, strict=True))
    assert right >= 2 * len(scenes) - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_packaged_captioner_holds_its_gates(name):
    report = check_gates(shipped_model(name), load_spec(name), n_images=800, seed=990_002)
    assert report.passed, [row for row in report.gates if row.passed is False]
