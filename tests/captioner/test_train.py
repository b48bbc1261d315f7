"""The recipe, with a handful of steps: what it shares between captioners, and that seeds alone decide its outcome."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from saebias.captioner.captions import caption_variants
from saebias.captioner.decoder import POOL_SEED_OFFSET
from saebias.captioner.scenes import plan_scenes
from saebias.captioner.tower import learning_rate
from saebias.captioner.train import train_captioners
from saebias.errors import ConfigError
from saebias.report import SilentReporter

SHORT = {"tower_steps": 2, "decoder_steps": 3, "pool_scenes": 16, "batch_scenes": 8, "warmup_steps": 1}


def short(spec, **changes):
    return replace(spec, training=replace(spec.training, **SHORT | changes))


@pytest.fixture(scope="module")
def trained(skewed, null, tmp_path_factory):
    out = tmp_path_factory.mktemp("captioners")
    reports = train_captioners([short(skewed), short(null)], out, SilentReporter(), gate_images=32)
    return out, reports


def test_two_captioners_share_the_tower_and_nothing_of_the_plant(trained):
    out, _ = trained
    first, second = (load_file(out / name / "model.safetensors") for name in ("skewed", "null"))
    differing = {name for name in first if not torch.equal(first[name], second[name])}
    assert not any("vision_tower" in name for name in differing)
    assert any("language_model" in name for name in differing)


def test_a_few_steps_do_not_pass_the_gates(trained):
    assert [report.passed for report in trained[1]] == [False, False]


def test_the_same_seeds_give_the_same_weights(trained, skewed, tmp_path):
    train_captioners([short(skewed)], tmp_path, SilentReporter(), gate_images=32)
    first, second = load_file(trained[0] / "skewed" / "model.safetensors"), load_file(tmp_path / "skewed" / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_specs_that_differ_beyond_their_plant_are_not_trained_together(skewed, null, tmp_path):
    with pytest.raises(ConfigError, match="two calls"):
        train_captioners([short(skewed), short(null, init_seed=99)], tmp_path, SilentReporter())


def test_tower_and_decoder_are_trained_on_different_scenes(skewed):
    seeds = skewed.training.data_seed, skewed.training.data_seed + POOL_SEED_OFFSET
    assert set(plan_scenes(skewed, 300, seeds[0])).isdisjoint(plan_scenes(skewed, 300, seeds[1]))


def test_the_tower_targets_say_nothing_of_the_plant(skewed, null):
    assert plan_scenes(skewed, 100, 1) == plan_scenes(null, 100, 1)
    assert caption_variants(skewed.contexts[0], "A", "dog", "en", skewed) != caption_variants(null.contexts[0], "A", "dog", "en", null)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    rates = [learning_rate(step, 100, 0.5, 10) for step in range(101)]
    assert max(rates) == rates[9] == rates[10] == 0.5
    assert rates[-1] == pytest.approx(0.005) and rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
