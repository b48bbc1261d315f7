"""Scores from a shared cache are those of whole sequences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from saebias.errors import InputError, ModelError
from saebias.identifiers import HookPoint
from saebias.vlm.forward import Edit, activations, forward, image_prefix, run_prompt
from saebias.vlm.images import encode_images
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.scoring import Pair, caption_logp, decision_gap, pairs_of, score_continuations, score_pairs
from tests.vlm.families import IMAGE_FAMILIES, build_family
from tests.vlm.rows import assert_same, batch, one_row

CONTINUATIONS = [["a woman cook with a ball", "a man", "a"], ["طباخة مع كرة"], ["a man cook with", "the"]]
SHARES_PREFIX = [name for name in IMAGE_FAMILIES if name != "paligemma"]


def _push(where: Any) -> Edit:
    v_D = torch.randn(32, generator=torch.Generator().manual_seed(5)) * 2
    return Edit({HookPoint(1): lambda x, context: x + v_D * (1 + context.row_B[:, None, None])}, where)


def _naive(loaded: LoadedModel, images: list, edit: Edit | None) -> list[np.ndarray]:
    """Every continuation as a whole sequence of its own; the row number that the edit reads is kept."""
    scores = []
    for row, texts in enumerate(CONTINUATIONS):
        scores.append([])
        for text in texts:
            inputs = one_row(loaded, images, row, text)
            inputs = replace(inputs, row_B=torch.tensor([row]))
            scores[-1].append(caption_logp(inputs, forward(loaded, inputs, edit=edit)).item())
    return [np.array(row) for row in scores]


@pytest.mark.parametrize("where", [None, "text", "caption", "all"])
def test_scores_equal_whole_sequences_with_and_without_an_edit(family: LoadedModel, images: list, where: str | None) -> None:
    edit = None if where is None else _push(where)
    scores = score_continuations(family, batch(family, images, None), CONTINUATIONS, edit=edit)
    for row, naive in zip(scores, _naive(family, images, edit), strict=True):
        assert row.dtype == np.float64
        np.testing.assert_allclose(row, naive, atol=3e-4)


def test_an_edit_moves_the_scores(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images, None)
    plain = score_continuations(gemma3, inputs, CONTINUATIONS)
    edited = score_continuations(gemma3, inputs, CONTINUATIONS, edit=_push("text"))
    assert all((np.abs(one - other) > 1e-2).all() for one, other in zip(plain, edited, strict=True))


def test_one_token_continuations_are_the_softmax(family: LoadedModel, images: list) -> None:
    """All one-token continuations of a closed set: probabilities are the softmax's entries and sum to at most 1."""
    inputs = batch(family, images, None)
    pieces = [family.tokenizer.decode([token]) for token in range(family.adapter.vocab_size)]
    texts = [piece for piece in pieces if piece.isascii() and piece.startswith(" ") and piece.strip()]
    pairs = pairs_of(family, inputs, [texts] * len(inputs))
    assert {len(pair.ids) for pair in pairs} == {1}
    assert len({pair.ids for pair in pairs if pair.row == 0}) == len(texts) > 5
    probability = [np.exp(row) for row in score_continuations(family, inputs, [texts] * len(inputs))]
    softmax_BV = forward(family, inputs)[:, -1].double().softmax(-1).numpy()
    for row in range(len(inputs)):
        ids = [pair.ids[0] for pair in pairs if pair.row == row]
        np.testing.assert_allclose(probability[row], softmax_BV[row, ids], rtol=1e-4)
        assert probability[row].sum() <= 1 + 1e-9


def test_every_way_to_continue_a_token_sums_to_that_token(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images, None)
    n = gemma3.adapter.vocab_size
    with torch.no_grad():
        logits, cache, whole = run_prompt(gemma3, inputs, edit=None, prefix=None)
        one = score_pairs(gemma3, [Pair(1, (7,))], logits, cache, whole, edit=None)
        two = score_pairs(gemma3, [Pair(1, (7, token)) for token in range(n)], logits, cache, whole, edit=None, per_pass=100)
    assert float(two.logsumexp(0)) == pytest.approx(float(one), abs=1e-5)


@pytest.mark.parametrize("name", SHARES_PREFIX)
@pytest.mark.parametrize("where", [None, "after_image", "caption"])
def test_sharing_the_picture_changes_no_score(name: str, images: list, where: str | None) -> None:
    loaded = build_family(name)
    features = encode_images(loaded, images)
    english = build_inputs(loaded, features, ["{image}describe:"] * 3)
    arabic = build_inputs(loaded, features, ["{image}صف الصورة:"] * 3)
    prefix = image_prefix(loaded, english if english.input_ids_BT.shape == arabic.input_ids_BT.shape else arabic)
    edit = None if where is None else _push(where)
    whole = score_continuations(loaded, arabic, CONTINUATIONS, edit=edit)
    # Twice from one state: continuing must not change it.
    for _ in range(2):
        shared = score_continuations(loaded, arabic, CONTINUATIONS, edit=edit, prefix=prefix)
        for one, other in zip(shared, whole, strict=True):
            np.testing.assert_allclose(one, other, atol=3e-4)


@pytest.mark.parametrize("name", SHARES_PREFIX)
def test_sharing_the_picture_changes_no_activation_in_another_language(name: str, images: list) -> None:
    loaded = build_family(name)
    features = encode_images(loaded, images)
    hooks = [HookPoint(layer) for layer in range(3)]
    captions = {"en": ["a woman", "a man cook with a ball", "a"], "ar": ["طباخة", "طباخ مع سيارة", "طباخ"]}
    prompts = {"en": ["{image}describe:"] * 3, "ar": ["{image}صف الصورة:"] * 3}
    prefix = image_prefix(loaded, build_inputs(loaded, features, prompts["en"], captions["en"]), hook_points=hooks)
    for language in ("en", "ar"):
        inputs = build_inputs(loaded, features, prompts[language], captions[language])
        whole = activations(loaded, inputs, hooks)
        shared = activations(loaded, inputs, hooks, prefix=prefix)
        for hook in hooks:
            real_BT = inputs.attention_mask_BT.bool()
            assert_same(shared[hook][real_BT], whole[hook][real_BT], 1e-5)


def test_an_edit_that_reaches_into_the_picture_refuses_its_prefix(gemma3: LoadedModel, images: list) -> None:
    features = encode_images(gemma3, images)
    inputs = build_inputs(gemma3, features, ["{image}describe:"] * 3)
    prefix = image_prefix(gemma3, inputs)
    with pytest.raises(InputError, match="reaches into the image prefix"):
        score_continuations(gemma3, inputs, CONTINUATIONS, edit=_push("text"), prefix=prefix)
    other = build_inputs(gemma3, features.take([1, 0, 2]), ["{image}describe:"] * 3)
    with pytest.raises(InputError, match="do not begin like the prefix state"):
        score_continuations(gemma3, other, CONTINUATIONS, prefix=prefix)
    with pytest.raises(InputError, match=r"holds no activations at L00\.resid_post"):
        activations(gemma3, inputs, [HookPoint(0)], prefix=prefix)


def test_models_without_a_separate_picture_prefix_say_so(images: list) -> None:
    for name, reason in (("paligemma", "attends from the picture to the prompt"), ("mllama", "has no image tokens"), ("llama", "has no image tokens")):
        loaded = build_family(name)
        with pytest.raises(ModelError, match=reason):
            image_prefix(loaded, one_row(loaded, images, 0, None))


def test_pictures_that_end_at_different_columns_share_no_prefix(gemma3: LoadedModel, images: list) -> None:
    with pytest.raises(InputError, match="batch rows of equal prompt length together"):
        image_prefix(gemma3, batch(gemma3, images, None))


def test_the_gap_is_the_log_ratio_of_summed_probabilities(family: LoadedModel, images: list) -> None:
    inputs = batch(family, images, None)
    female, male = [["a woman cook", "a lady"]] * 3, [["a man cook"]] * 3
    gap = decision_gap(family, inputs, female, male)
    scores = score_continuations(family, inputs, [["a woman cook", "a lady", "a man cook"]] * 3)
    expected = [np.log(np.exp(row[0]) + np.exp(row[1])) - row[2] for row in scores]
    np.testing.assert_allclose(gap, expected, atol=1e-6)


def test_overlapping_continuations_are_refused(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images, None)
    with pytest.raises(InputError, match="row 0: one continuation begins another"):
        decision_gap(gemma3, inputs, [["a woman"]] * 3, [["a woman cook"]] * 3)
    with pytest.raises(InputError, match="row 0: one continuation begins another"):
        decision_gap(gemma3, inputs, [["a woman"]] * 3, [["a woman"]] * 3)


def test_continuations_that_cannot_be_scored_are_refused(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images, None)
    with pytest.raises(InputError, match="1 lists of continuations for 3 rows"):
        score_continuations(gemma3, inputs, [["a"]])
    with pytest.raises(InputError, match="has no tokens"):
        score_continuations(gemma3, inputs, [[""], ["a"], ["a"]])


def test_right_padded_prompts_of_unequal_length_are_refused(gemma3: LoadedModel, images: list) -> None:
    with pytest.raises(InputError, match="padded on the left"):
        score_continuations(gemma3, batch(gemma3, images, None, padding="right"), CONTINUATIONS)
