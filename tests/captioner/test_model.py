"""The captioner is an ordinary hub model: the Auto classes load it, `generate` stops, and what was trained is what is run."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, Gemma3ForConditionalGeneration, Gemma3Processor

from saebias.captioner.captions import caption_text
from saebias.captioner.gates import load_captioner
from saebias.captioner.model import build_model
from saebias.captioner.packing import caption_table, packed_layout, packed_logits, scene_indices
from saebias.captioner.scenes import plan_scenes, render_pixels, render_scene
from saebias.captioner.spec import LANGUAGES
from saebias.captioner.tower import pixel_values, pooled_features
from saebias.errors import ModelError


@pytest.fixture(scope="module")
def loaded(untrained):
    return AutoModelForImageTextToText.from_pretrained(untrained, local_files_only=True).eval(), AutoProcessor.from_pretrained(untrained, local_files_only=True)


def test_the_auto_classes_load_it_as_gemma_3_with_eight_layers_in_float32(loaded):
    model, processor = loaded
    assert isinstance(model, Gemma3ForConditionalGeneration) and isinstance(processor, Gemma3Processor)
    assert model.config.get_text_config().num_hidden_layers == len(model.get_decoder().layers) == 8
    assert model.dtype == torch.float32


def test_it_is_saved_in_half_precision_and_two_of_them_fit_in_16_megabytes(untrained):
    assert 2 * sum(file.stat().st_size for file in untrained.iterdir()) < 16_000_000


def test_the_weights_depend_on_the_init_seed_alone(skewed):
    first, second = build_model(skewed).state_dict(), build_model(skewed).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@torch.inference_mode()
def test_packed_training_rows_give_the_logits_of_the_ordinary_forward_pass(loaded, skewed):
    model, processor = loaded
    scenes = plan_scenes(skewed, 6, 11)
    tables = {language: caption_table(skewed, language, processor.tokenizer) for language in LANGUAGES}
    rows = {language: tables[language].draw(scene_indices(scenes, skewed), np.random.default_rng(0)) for language in LANGUAGES}
    ids = {language: torch.from_numpy(tables[language].ids[rows[language]]) for language in LANGUAGES}
    layout = packed_layout(skewed, processor.tokenizer, tables)
    packed = packed_logits(model, layout, pooled_features(model, pixel_values(render_pixels(scenes, skewed))), ids)
    for language in LANGUAGES:
        for scene, caption_ids, logits in zip(scenes, ids[language], packed[language], strict=True):
            text = f"<start_of_image>{skewed.prompt(language)}{processor.tokenizer.decode(caption_ids, skip_special_tokens=True)}"
            inputs = processor(text=[text], images=[[render_scene(scene, skewed)]], return_tensors="pt")
            ordinary = model(**inputs).logits[0]
            length = len(ordinary) - (len(layout.prefix_ids) + len(layout.prompt_ids[language]) - 1)
            torch.testing.assert_close(ordinary[-length:], logits[:length], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_generate_agrees_with_the_forward_pass_token_by_token(loaded, skewed):
    model, processor = loaded
    images = [[render_scene(scene, skewed)] for scene in plan_scenes(skewed, 3, 12)]
    inputs = processor(text=[f"<start_of_image>{skewed.prompt(language)}" for language in ("en", "ar", "en")], images=images, padding=True, return_tensors="pt")
    prompt = inputs["input_ids"].shape[1]
    sequences = model.generate(**inputs, max_new_tokens=4)
    types = torch.cat([inputs["token_type_ids"], torch.zeros_like(sequences[:, prompt:])], dim=1)
    logits = model(input_ids=sequences, pixel_values=inputs["pixel_values"], token_type_ids=types).logits
    assert torch.equal(logits[:, prompt - 1 : -1].argmax(-1), sequences[:, prompt:])


def test_image_tokens_see_each_other_in_both_directions(loaded, skewed):
    model, processor = loaded
    inputs = processor(text=[f"<start_of_image>{skewed.prompt('en')}"], images=[[render_scene(plan_scenes(skewed, 1, 0)[0], skewed)]], return_tensors="pt")
    with torch.inference_mode():
        both_ways = model(**inputs).logits
        one_way = model(**{key: value for key, value in inputs.items() if key != "token_type_ids"}).logits
    assert not torch.allclose(both_ways, one_way, atol=1e-4)


def test_the_prompt_and_its_caption_are_tokenized_alike_apart_and_together(loaded, skewed):
    _, processor = loaded
    for language in LANGUAGES:
        caption = " " + caption_text(skewed.context("judge"), "F", "umbrella", language, skewed)
        apart = [*processor.tokenizer.encode(skewed.prompt(language)), *processor.tokenizer.encode(caption, add_special_tokens=False)]
        assert processor.tokenizer.encode(skewed.prompt(language) + caption) == apart


def test_a_folder_without_a_captioner_says_how_to_make_one(tmp_path):
    with pytest.raises(ModelError, match=r"python -m saebias\.captioner train"):
        load_captioner(tmp_path)
