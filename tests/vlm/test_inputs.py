"""Rows become tensors without changing what the model computes for each row alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from saebias.errors import InputError, ModelError
from saebias.vlm.forward import forward
from saebias.vlm.images import encode_images, join_features
from saebias.vlm.inputs import Padding, build_inputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.positions import CAPTION, IMAGE, PAD, PROMPT
from saebias.vlm.prompts import render_prompt
from tests.vlm.conftest import CAPTIONS, PROMPTS
from tests.vlm.families import IMAGE_FAMILIES, build_family
from tests.vlm.rows import assert_same, batch, one_row, real

TILED = 5 * 4  # four tiles and the whole picture, with row and column marks between them
IMAGE_TOKENS = {"gemma3": 4, "paligemma": 16, "llava": 16, "qwen2_vl": 4, "qwen2_5_vl": 4, "idefics3": TILED, "smolvlm": TILED}
PLAIN_INPUTS = ("input_ids", "attention_mask", "labels", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")


def _plain_logits(loaded: LoadedModel, image: Image.Image, prompt: str, caption_ids: tuple[int, ...]) -> torch.Tensor:
    """Logits of one row the way the model's own documentation runs it: its processor, its pixel values, its default positions."""
    output = loaded.processor(images=[[image]], text=[render_prompt(loaded, prompt, has_image=True)], return_tensors="pt")
    n_new = len(caption_ids)
    extra = {name: value for name, value in output.items() if name not in PLAIN_INPUTS}
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in output:
            # PaliGemma's own suffix type is 1, see its processor; text is 0 for the others.
            extra[name] = torch.cat([output[name], torch.full((1, n_new), int(loaded.adapter.family == "paligemma"))], 1)
    if "cross_attention_mask" in output:
        mask = output["cross_attention_mask"]
        extra["cross_attention_mask"] = torch.cat([mask, mask[:, -1:].expand(-1, n_new, -1, -1)], 1)
    ids = torch.cat([output["input_ids"], torch.tensor([caption_ids])], 1)
    with torch.no_grad():
        return loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits[0]


@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_batch_equals_every_row_through_the_models_own_processor(family: LoadedModel, images: list, padding: Padding) -> None:
    inputs = batch(family, images, padding=padding)
    logits = forward(family, inputs)
    assert torch.isfinite(logits).all()
    for row in range(len(inputs)):
        if family.processor is None:
            with torch.no_grad():
                plain = family.model(input_ids=torch.tensor([inputs.prompts[row].ids + inputs.captions[row]])).logits[0]
        else:
            plain = _plain_logits(family, images[row], PROMPTS[row], inputs.captions[row])
        assert_same(real(inputs, row, logits), plain, 1e-5)


@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_batch_equals_its_rows_one_by_one(family: LoadedModel, images: list, padding: Padding) -> None:
    inputs = batch(family, images, padding=padding)
    logits = forward(family, inputs)
    for row, caption in enumerate(CAPTIONS):
        assert_same(real(inputs, row, logits), forward(family, one_row(family, images, row, caption))[0], 1e-5)


def test_pictures_through_the_tower_once_equal_pixel_values(image_family: LoadedModel, images: list) -> None:
    features = encode_images(image_family, images, batch_size=2)
    shared = build_inputs(image_family, features.take([1, 1, 0]), PROMPTS, CAPTIONS)
    again = build_inputs(image_family, [images[1], images[1], images[0]], PROMPTS, CAPTIONS)
    assert_same(forward(image_family, shared), forward(image_family, again), 1e-5)
    for row, picture in enumerate([images[1], images[1], images[0]]):
        assert_same(real(shared, row, forward(image_family, shared)), _plain_logits(image_family, picture, PROMPTS[row], shared.captions[row]), 1e-5)


@pytest.mark.parametrize("name", [*IMAGE_FAMILIES, "mllama"])
def test_the_picture_matters(name: str, images: list) -> None:
    loaded = build_family(name)
    one = forward(loaded, one_row(loaded, images, 0, CAPTIONS[0]))
    other = forward(loaded, one_row(loaded, [images[1]], 0, CAPTIONS[0]))
    assert float((one - other)[0, -1].abs().max()) > 1e-3


def test_every_token_has_its_kind(family: LoadedModel, images: list) -> None:
    inputs = batch(family, images)
    n_image = IMAGE_TOKENS.get(family.adapter.family, 0)
    for row in range(len(inputs)):
        kinds = inputs.token_kind_BT[row].tolist()
        length = len(inputs.prompts[row].ids) + len(inputs.captions[row])
        assert kinds.count(IMAGE) == n_image
        assert kinds.count(PROMPT) == len(inputs.prompts[row].ids) - n_image
        assert kinds.count(CAPTION) == len(inputs.captions[row]) > 0
        assert kinds == [kind for kind in kinds if kind != PAD] + [PAD] * (len(kinds) - length)
        if n_image:
            assert n_image == TILED or np.ptp(np.flatnonzero(np.array(kinds) == IMAGE)) == n_image - 1
            assert set(inputs.input_ids_BT[row, torch.tensor(kinds) == IMAGE].tolist()) == {family.adapter.image_token_id}
        assert inputs.position_BT[row].tolist() == [*range(length), *[-1] * (len(kinds) - length)]


def test_columns_are_found_whatever_the_padding(gemma3: LoadedModel, images: list) -> None:
    for padding in ("left", "right"):
        inputs = batch(gemma3, images, padding=padding)
        for row in range(len(inputs)):
            column = inputs.column(row, int(inputs.prompt_length_B[row]))
            assert inputs.position_BT[row, column] == inputs.prompt_length_B[row]
            assert inputs.input_ids_BT[row, column] == inputs.captions[row][0]


def test_pictures_of_different_sizes_get_their_own_placeholders(images: list) -> None:
    loaded = build_family("qwen2_vl")
    wide = Image.fromarray(np.random.default_rng(3).integers(0, 256, (32, 64, 3), dtype=np.uint8))
    inputs = build_inputs(loaded, [images[0], wide], PROMPTS[:2], CAPTIONS[:2])
    assert (inputs.token_kind_BT == IMAGE).sum(1).tolist() == [4, 8]
    logits = forward(loaded, inputs)
    for row, picture in enumerate([images[0], wide]):
        assert_same(real(inputs, row, logits), _plain_logits(loaded, picture, PROMPTS[row], inputs.captions[row]), 1e-5)


def test_joined_features_are_those_of_all_pictures_at_once(image_family: LoadedModel, images: list) -> None:
    whole = encode_images(image_family, images)
    joined = join_features([encode_images(image_family, images[:1]), encode_images(image_family, images[1:])])
    assert len(joined) == len(whole) == len(images)
    for one, other in zip(joined.x_ND, whole.x_ND, strict=True):
        assert_same(one, other, 1e-5)


def test_arrays_serve_as_pictures(gemma3: LoadedModel, images: list) -> None:
    features = encode_images(gemma3, [np.asarray(image) for image in images])
    assert all(torch.equal(one, other) for one, other in zip(features.x_ND, encode_images(gemma3, images).x_ND, strict=True))


def test_a_prompt_without_image_slot_is_refused(image_family: LoadedModel, images: list) -> None:
    with pytest.raises(InputError, match=r"'describe:' has 0 image slots; write \{image\} once"):
        build_inputs(image_family, images[:1], ["describe:"])
    with pytest.raises(InputError, match="has 2 image slots"):
        build_inputs(image_family, images[:1], ["{image} and {image}"])
    with pytest.raises(InputError, match="no picture is given"):
        build_inputs(image_family, None, ["{image}describe:"])


def test_a_text_only_model_refuses_pictures(images: list) -> None:
    with pytest.raises(InputError, match="reads text only"):
        build_inputs(build_family("llama"), images[:1], ["{image}describe:"])


def test_cross_attention_models_say_that_they_have_no_image_tokens(images: list) -> None:
    with pytest.raises(ModelError, match="cross-attention and has no image tokens in the sequence"):
        encode_images(build_family("mllama"), images)


def test_counts_that_do_not_match_are_refused(gemma3: LoadedModel, images: list) -> None:
    with pytest.raises(InputError, match="3 images for 1 prompts"):
        build_inputs(gemma3, images, PROMPTS[:1])
    with pytest.raises(InputError, match="2 continuations for 1 prompts"):
        build_inputs(gemma3, images[:1], PROMPTS[:1], ["a", "b"])
    with pytest.raises(InputError, match="no prompts"):
        build_inputs(gemma3, [], [])


def test_a_caption_longer_than_the_context_is_refused(gemma3: LoadedModel, images: list) -> None:
    with pytest.raises(InputError, match=r"row 1 has \d+ tokens but the model's context is 256"):
        build_inputs(gemma3, images[:2], PROMPTS[:2], ["a", "xyz " * 300])


def test_other_captions_on_the_same_rows_equal_rows_built_anew(image_family: LoadedModel, images: list) -> None:
    inputs = batch(image_family, images)
    other = batch(image_family, images, ("a", "طباخ", "a man cook"))
    swapped = inputs.with_captions(other.captions, padding="right")
    assert_same(forward(image_family, swapped), forward(image_family, other), 1e-6)
