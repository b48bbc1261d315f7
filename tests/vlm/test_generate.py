"""Captions are those of the model's own greedy decoding, and samples are the model's distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saebias.errors import InputError
from saebias.identifiers import HookPoint
from saebias.vlm.forward import Edit, forward, image_prefix, piece_of, run
from saebias.vlm.generate import generate_captions, generate_tokens
from saebias.vlm.images import encode_images
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.prompts import caption_tokens
from tests.vlm.conftest import PROMPTS
from tests.vlm.families import build_family
from tests.vlm.rows import batch, one_row, prompts_of


def _push(where: Any) -> Edit:
    v_D = torch.randn(32, generator=torch.Generator().manual_seed(6)) * 2
    return Edit({HookPoint(1): lambda x, _: x + v_D}, where)


def _until_end(loaded: LoadedModel, ids: list[int]) -> tuple[int, ...]:
    ends = [index for index, token in enumerate(ids) if token in loaded.eos_token_ids]
    return tuple(ids[: ends[0]] if ends else ids)


def test_greedy_captions_are_those_of_transformers(family: LoadedModel, images: list) -> None:
    inputs = batch(family, images, None)
    own = family.model.generate(**inputs.tensors, max_new_tokens=12, do_sample=False, pad_token_id=family.pad_token_id)
    expected = [_until_end(family, row) for row in own[:, inputs.input_ids_BT.shape[1] :].tolist()]
    assert generate_tokens(family, inputs, max_new_tokens=12) == expected


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_a_row_that_ended_leaves_the_others_as_they_are(family: LoadedModel, images: list, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, settings = batch(family, images, None), family.model.generation_config
    monkeypatch.setattr(settings, "eos_token_id", [])
    endless = generate_tokens(family, inputs, max_new_tokens=9, mode=mode)
    monkeypatch.setattr(settings, "eos_token_id", [endless[0][2]])
    assert generate_tokens(family, inputs, max_new_tokens=9, mode=mode) == [_until_end(family, list(ids)) for ids in endless]


def test_logits_of_some_columns_are_those_of_all(family: LoadedModel, images: list) -> None:
    piece = piece_of(batch(family, images, None))
    mask_BT = torch.rand(piece.input_ids_BT.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    with torch.no_grad():
        whole = run(family, piece)
        torch.testing.assert_close(run(family, piece, logits=mask_BT), whole[mask_BT], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(run(family, piece, logits="last"), whole[:, -1:], atol=1e-5, rtol=1e-5)
        assert run(family, piece, logits="none").shape == (len(whole), 0, whole.shape[2])


@pytest.mark.parametrize("where", ["text", "caption"])
def test_generation_under_an_edit_takes_the_likeliest_token_of_whole_passes(family: LoadedModel, images: list, where: str) -> None:
    edit = _push(where)
    plain = generate_tokens(family, batch(family, images, None), max_new_tokens=6)
    generated = generate_tokens(family, batch(family, images, None), max_new_tokens=6, edit=edit)
    assert generated != plain
    for row, tokens in enumerate(generated):
        ids: list[int] = []
        for _ in range(6):
            inputs = one_row(family, images, row, None)
            if ids and inputs.cross_attention is not None:
                inputs = one_row(family, images, row, family.tokenizer.decode(ids))
                if list(inputs.captions[0]) != ids:
                    break  # the text of random tokens need not have those tokens; such a row cannot be checked this way
            elif ids:
                inputs = inputs.with_captions([ids], padding="right")
            ids.append(int(forward(family, inputs, edit=edit)[0, -1].argmax()))
        assert tokens[: len(ids)] == _until_end(family, ids)


def test_a_batch_never_changes_a_caption(family: LoadedModel, images: list) -> None:
    pictures = images if family.processor is not None else None
    for mode in ("greedy", "sample"):
        options: dict[str, Any] = {"max_new_tokens": 6, "mode": mode, "seed": 4}
        together = generate_captions(family, pictures, prompts_of(family), **options)
        alone = generate_captions(family, pictures, prompts_of(family), batch_size=1, **options)
        assert together == alone
    one = generate_captions(family, None if pictures is None else pictures[2:], prompts_of(family)[2:], row_ids=[2], **options)
    assert one == together[2:]


def test_seeds_and_rows_have_their_own_samples(gemma3: LoadedModel, images: list) -> None:
    features = encode_images(gemma3, images).take([0] * 8)
    prompts = [PROMPTS[0]] * 8
    first = generate_captions(gemma3, features, prompts, max_new_tokens=6, mode="sample", seed=1)
    assert len(set(first)) > 1
    assert first == generate_captions(gemma3, features, prompts, max_new_tokens=6, mode="sample", seed=1)
    assert first != generate_captions(gemma3, features, prompts, max_new_tokens=6, mode="sample", seed=2)


def test_samples_follow_the_models_distribution(gemma3: LoadedModel, images: list) -> None:
    n, temperature = 1500, 0.7
    features = encode_images(gemma3, images).take([0] * n)
    inputs = build_inputs(gemma3, features, [PROMPTS[0]] * n)
    tokens = generate_tokens(gemma3, inputs, max_new_tokens=1, mode="sample", temperature=temperature, seed=3)
    ends = gemma3.eos_token_ids[0]
    counts = np.bincount([row[0] if row else ends for row in tokens], minlength=gemma3.adapter.vocab_size)
    logits = forward(gemma3, one_row(gemma3, images, 0, None))[0, -1].double()
    probability = torch.softmax(logits / temperature, -1).numpy()
    common = probability > 0.01
    assert common.sum() > 5
    error = np.abs(counts / n - probability) / np.sqrt(probability * (1 - probability) / n)
    assert error[common].max() < 4
    assert counts[~common].sum() / n == pytest.approx(probability[~common].sum(), abs=0.05)


def test_a_cold_sample_is_greedy(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images, None)
    assert generate_tokens(gemma3, inputs, max_new_tokens=6, mode="sample", temperature=1e-4, seed=1) == generate_tokens(gemma3, inputs, max_new_tokens=6)


def test_a_shared_picture_prefix_changes_no_caption(gemma3: LoadedModel, images: list) -> None:
    inputs = build_inputs(gemma3, encode_images(gemma3, images), [PROMPTS[0]] * 3)
    prefix = image_prefix(gemma3, inputs)
    for edit in (None, _push("after_image")):
        assert generate_tokens(gemma3, inputs, max_new_tokens=8, edit=edit, prefix=prefix) == generate_tokens(gemma3, inputs, max_new_tokens=8, edit=edit)


def test_a_generated_caption_has_the_tokens_it_was_generated_with() -> None:
    """The law that makes teacher forcing and generation agree: text -> tokens -> the same text, behind every prompt."""
    loaded = build_family("llama")
    inputs = build_inputs(loaded, None, ["describe:"])
    for text in ("a woman cook with a ball", "طباخة مع كرة"):
        (ids,) = caption_tokens(loaded, inputs.prompts[0], [text])
        # The model would have to emit exactly these: they are what running text has behind this prompt.
        assert loaded.tokenizer.decode(ids).strip() == text
        assert loaded.tokenizer.decode([*inputs.prompts[0].ids, *ids], skip_special_tokens=True) == f"describe: {text}"


def test_unknown_modes_and_temperatures_are_refused(gemma3: LoadedModel, images: list) -> None:
    inputs = batch(gemma3, images, None)
    with pytest.raises(InputError, match="unknown generation mode 'beam'"):
        generate_tokens(gemma3, inputs, max_new_tokens=2, mode="beam")  # ty: ignore[invalid-argument-type]
    with pytest.raises(InputError, match="temperature 0"):
        generate_tokens(gemma3, inputs, max_new_tokens=2, mode="sample", temperature=0)
