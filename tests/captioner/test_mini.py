"""The captioner from real parts, with tiny stand-ins of the same classes; the real one is measured when it is built."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM, Gemma3TextConfig

from saebias.captioner.__main__ import main
from saebias.captioner.efficientnet import NORM_EPSILON, STAGES, EfficientNetLite, EfficientNetLiteConfig, folded_weights, register
from saebias.captioner.mini import IMAGE_TOKEN, TOWER, MiniParts, _joined, build_config, build_processor, save_mini
from saebias.captioner.mini_figures import FIGURE_PARTS, RIGHT, WOMAN, gaps, mini_figures
from saebias.captioner.mini_training import NO_AMBIGUOUS, MiniRecipe, caption_states, mini_layout, train_projector, training_scenes, training_spec
from saebias.captioner.packing import caption_table
from saebias.captioner.scenes import plan_scenes
from saebias.captioner.spec import LANGUAGES, CaptionerSpec, load_spec
from saebias.errors import ModelError
from saebias.report import SilentReporter
from saebias.vlm.forward import forward
from saebias.vlm.images import encode_images
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import from_parts, load_model
from tests.vlm.tiny_tokenizers import byte_tokenizer


def _published(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """A state with the names and shapes of the published one, drawn at random."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    state: dict[str, torch.Tensor] = {}

    def layer(convolution: str, norm: str, out: int, into: int, kernel: int) -> None:
        state[f"{convolution}.weight"] = normal(out, into, kernel, kernel) * (into * kernel * kernel) ** -0.5
        for name, values in (("weight", 1 + 0.1 * normal(out)), ("bias", normal(out)), ("running_mean", normal(out)), ("running_var", 1 + normal(out).abs())):
            state[f"{norm}.{name}"] = values

    layer("_conv_stem", "_bn0", 32, 3, 3)
    channels, number = 32, 0
    for kernel, _stride, expansion, out, repeats in STAGES:
        for _ in range(repeats):
            place, wide = f"_blocks.{number}.", channels * expansion
            if expansion > 1:
                layer(f"{place}_expand_conv", f"{place}_bn0", wide, channels, 1)
            layer(f"{place}_depthwise_conv", f"{place}_bn1", wide, 1, kernel)
            layer(f"{place}_project_conv", f"{place}_bn2", out, wide, 1)
            channels, number = out, number + 1
    layer("_conv_head", "_bn1", 1280, channels, 1)
    return state


def _plain(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The network as it was published, convolution and batch norm apart, for sides that a stride divides: TensorFlow then pads right and below more."""

    def layer(x: torch.Tensor, convolution: str, norm: str, stride: int = 1, groups: int = 1, *, activate: bool = True) -> torch.Tensor:
        weight = state[f"{convolution}.weight"]
        total = max(weight.shape[-1] - stride, 0)
        x = functional.conv2d(functional.pad(x, [total // 2, total - total // 2] * 2), weight, stride=stride, groups=groups)
        x = functional.batch_norm(x, *(state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")), eps=NORM_EPSILON)
        return functional.relu6(x) if activate else x

    x = layer(x, "_conv_stem", "_bn0", 2)
    number = 0
    for _kernel, first_stride, expansion, _out, repeats in STAGES:
        for repeat in range(repeats):
            place, stride = f"_blocks.{number}.", first_stride if repeat == 0 else 1
            wide = layer(x, f"{place}_expand_conv", f"{place}_bn0") if expansion > 1 else x
            out = layer(wide, f"{place}_depthwise_conv", f"{place}_bn1", stride, groups=wide.shape[1])
            out = layer(out, f"{place}_project_conv", f"{place}_bn2", activate=False)
            x, number = x + out if out.shape == x.shape else out, number + 1
    return layer(x, "_conv_head", "_bn1")


def test_the_tower_is_the_published_network_with_its_batch_norms_folded_in() -> None:
    generator = torch.Generator().manual_seed(3)
    state = _published(generator)
    tower = EfficientNetLite(EfficientNetLiteConfig(image_size=64, pool=1)).eval()
    tower.load_state_dict(folded_weights(state))
    pixels = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        expected = _plain(state, pixels)
        found = tower(pixels).last_hidden_state
    assert expected.shape == (2, 1280, 2, 2)
    torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)


def test_the_auto_classes_open_a_saved_tower(tmp_path: Path) -> None:
    register()
    tower = EfficientNetLite(EfficientNetLiteConfig(image_size=64, pool=1)).eval()
    tower.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    pixels = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(pixels).last_hidden_state, tower(pixels).last_hidden_state)


@pytest.fixture
def parts() -> MiniParts:
    """The captioner's classes around a tiny language model and an untrained tower."""
    register()
    tokenizer: Any = byte_tokenizer(with_bos=True)
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE_TOKEN]})
    tokenizer.image_token = IMAGE_TOKEN  # this tokenizer has one of its own, Gemma's has not
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        language_model = AutoModelForCausalLM.from_config(config)
        tower = EfficientNetLite(TOWER)
        model = _joined(build_config(language_model.config, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)), tower, language_model)
    with torch.no_grad():
        for parameter in model.model.language_model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(6)) * 0.2)
    model.generation_config.eos_token_id = 1
    model.eval().requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    return MiniParts(model, build_processor(tokenizer))


@pytest.fixture
def spec() -> CaptionerSpec:
    return training_spec(load_spec("null"))


def test_training_reads_what_the_ordinary_path_reads(parts: MiniParts, spec: CaptionerSpec) -> None:
    tokenizer = parts.processor.tokenizer
    tables = {language: caption_table(spec, language, tokenizer) for language in LANGUAGES}
    layout = mini_layout(parts, spec, tables)
    rows = {language: np.array([0, 40]) for language in LANGUAGES}
    ids = {language: torch.from_numpy(tables[language].ids[rows[language]]) for language in LANGUAGES}
    is_asked = {language: torch.from_numpy(tables[language].target_shares[rows[language]].sum(-1) > 0) for language in LANGUAGES}
    images = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (112, 112, 3), dtype=np.uint8)) for n in range(2)]
    pixels = parts.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        states = caption_states(parts, layout, parts.tower(pixels).last_hidden_state, ids, is_asked)
    loaded = from_parts(parts.model, tokenizer, parts.processor, name="tiny-mini")
    features = encode_images(loaded, images)
    for language in LANGUAGES:
        lengths = [int(asked.sum()) for asked in is_asked[language]]
        captions = [tokenizer.decode(row[: length - 1]).strip() for row, length in zip(ids[language].tolist(), lengths, strict=True)]
        inputs = build_inputs(loaded, features, ["{image}" + spec.prompt(language)] * 2, captions)
        logits_BTV = forward(loaded, inputs)
        expected = [logits_BTV[row, start - 1 : start - 1 + length] for row, (start, length) in enumerate(zip(inputs.prompt_length_B, lengths, strict=True))]
        with torch.no_grad():
            found = parts.model.lm_head(states[language])
        torch.testing.assert_close(found, torch.cat(expected), atol=2e-4, rtol=1e-3)


def test_the_captioner_is_a_model_like_any_other(parts: MiniParts, tmp_path: Path) -> None:
    loaded = load_model(save_mini(parts, tmp_path / "mini", "{}"))
    assert loaded.adapter.has_image_tokens
    assert loaded.adapter.n_layers == 2
    images = [Image.fromarray(np.full((112, 112, 3), shade, dtype=np.uint8)) for shade in (0, 200)]
    inputs = build_inputs(loaded, images, ["{image}English caption:"] * 2, ["a woman", "a man"])
    assert int((inputs.token_kind_BT == 1).sum()) == 2 * 9
    ours = from_parts(parts.model, parts.processor.tokenizer, parts.processor, name="tiny-mini")
    torch.testing.assert_close(forward(loaded, inputs), forward(ours, inputs), atol=1e-5, rtol=1e-5)


def test_figures_say_who_is_called_a_woman_of_pictures_that_do_not_say(parts: MiniParts, spec: CaptionerSpec) -> None:
    loaded = from_parts(parts.model, parts.processor.tokenizer, parts.processor, name="tiny-mini")
    rows = mini_figures(loaded, spec, n_images=16, seed=5)
    assert [(row.name, row.part, row.language) for row in rows] == [
        *((RIGHT, part, language) for part in FIGURE_PARTS for language in LANGUAGES),
        *((WOMAN, "ambiguous", language) for language in LANGUAGES),
    ]
    scenes = plan_scenes(spec, 16, 5, ambiguous_share=1 - NO_AMBIGUOUS)
    assert {scene.gender for scene in scenes} == {"A"}
    for row in rows[-2:]:
        # One by one, without the shared pictures.
        gaps_B = [float(gaps(loaded, [scene], spec)[row.language][0]) for scene in scenes]
        assert row.value == pytest.approx(np.mean([1 / (1 + np.exp(-gap)) for gap in gaps_B]), abs=1e-4)
        assert row.low < row.value < row.high


def test_measuring_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mini", "--measure", "--out", str(tmp_path)]) == 2
    assert "accept" in capsys.readouterr().err
    (tmp_path / "provenance.json").write_text('{"spec": "null", "terms": {}}')
    assert main(["gates", str(tmp_path)]) == 2
    assert "mini --measure" in capsys.readouterr().err


def test_training_scenes_are_clear_balanced_and_keep_one_tone_back(spec: CaptionerSpec) -> None:
    scenes = training_scenes(spec, MiniRecipe())
    assert {scene.gender for scene in scenes} == {"F", "M"}
    assert abs(sum(scene.gender == "F" for scene in scenes) / len(scenes) - 0.5) < 0.05
    assert spec.held_out_tone not in {scene.tone for scene in scenes}


class Stopping(SilentReporter):
    """A reporter whose progress raises after so many steps, as a kill does between two of them."""

    def __init__(self, after: int) -> None:
        self.after = after

    def task(self, label: str, total: int, unit: str = "rows") -> Any:
        outer = self

        class Task:
            def __enter__(self) -> Task:
                return self

            def __exit__(self, *exc: object) -> None: ...

            def advance(self, amount: int = 1, **fields: float | str) -> None:
                outer.after -= amount if label == "projector" else 0
                if outer.after < 0:
                    raise KeyboardInterrupt

        return Task()


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_weights(parts: MiniParts, spec: CaptionerSpec, tmp_path: Path) -> None:
    recipe = MiniRecipe(steps=13, pool_scenes=16, batch_scenes=2)
    start = {name: value.clone() for name, value in parts.projector.state_dict().items()}
    train_projector(parts, spec, recipe, tmp_path / "whole", SilentReporter())
    whole = {name: value.clone() for name, value in parts.projector.state_dict().items()}
    parts.projector.load_state_dict(start)
    with pytest.raises(KeyboardInterrupt):
        train_projector(parts, spec, recipe, tmp_path / "stopped", Stopping(11))
    parts.projector.load_state_dict(start)
    train_projector(parts, spec, recipe, tmp_path / "stopped", SilentReporter())
    assert all(torch.equal(value, whole[name]) for name, value in parts.projector.state_dict().items())
    assert any(not torch.equal(value, start[name]) for name, value in whole.items())


def test_a_captioner_that_is_not_built_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saebias.config.load import load_config
    from saebias.stages.model_access import model_files, model_source
    from saebias.vlm.packaged import PACKAGED

    monkeypatch.setenv("SAEBIAS_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"Google's Gemma Terms of Use.*model\.accept_license=gemma"):
        model_files(load_config(Path("mini-gemma3")))
    folder = PACKAGED["gemma3-270m"].folder
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"not built on this machine; build it once .*`python -m saebias\.captioner mini --accept-license gemma`") as error:
        model_source(load_config(Path("mini-gemma3"), ["model.accept_license=gemma"]))
    assert os.linesep not in str(error.value)
