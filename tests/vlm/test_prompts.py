"""Prompts, captions and their boundary as tokens."""

from __future__ import annotations

import pytest

from saebias.errors import InputError
from saebias.vlm.inputs import build_inputs
from saebias.vlm.loading import LoadedModel
from saebias.vlm.prompts import PromptTokens, caption_tokens, decision, decision_token_count, find_decision, prompt_tokens, render_prompt
from tests.vlm.conftest import CAPTIONS, PROMPTS
from tests.vlm.families import build_family
from tests.vlm.tiny_tokenizers import dummy_prefix_tokenizer


def _prompt(loaded: LoadedModel, text: str) -> PromptTokens:
    return prompt_tokens(loaded, text)


def test_a_caption_has_the_tokens_it_has_in_running_text() -> None:
    loaded = build_family("llama")
    for caption in CAPTIONS:
        prompt = _prompt(loaded, "describe:")
        (ids,) = caption_tokens(loaded, prompt, [caption])
        assert list(prompt.ids + ids) == loaded.tokenizer(f"describe: {caption}")["input_ids"]


def test_no_space_is_added_where_there_is_white_space_already() -> None:
    loaded = build_family("llama")
    (after_newline,) = caption_tokens(loaded, _prompt(loaded, "describe\n"), ["a man"])
    assert loaded.tokenizer.decode(after_newline) == "a man"
    spaced, plain = caption_tokens(loaded, _prompt(loaded, "describe:"), [" a man", "a man"])
    assert spaced == plain
    assert loaded.tokenizer.decode(plain) == " a man"


def test_a_tokenizer_that_invents_a_first_space_does_not_invent_it_before_captions() -> None:
    """Sentence-piece tokenizers put a space before every text; behind a prompt that would be a second one."""
    loaded = build_family("llama")
    loaded = type(loaded)(loaded.model, None, dummy_prefix_tokenizer(), loaded.adapter, "dummy", None, "")
    assert loaded.tokenizer.tokenize("a man")[0].startswith("▁")
    (ids,) = caption_tokens(loaded, _prompt(loaded, "describe:"), ["a man"])
    assert list(_prompt(loaded, "describe:").ids + ids) == loaded.tokenizer("describe: a man")["input_ids"]
    (bare,) = caption_tokens(loaded, _prompt(loaded, "describe\n"), ["a man"])
    assert list(_prompt(loaded, "describe\n").ids + bare) == loaded.tokenizer("describe\na man")["input_ids"]


def test_f_and_m_captions_part_after_their_common_tokens() -> None:
    loaded = build_family("llama")
    prompt = _prompt(loaded, "describe:")
    female, male = caption_tokens(loaded, prompt, ["a woman cook", "a man cook"])
    found = decision(loaded, prompt, ["a woman cook"], ["a man cook"])
    assert female[: found.common] == male[: found.common]
    assert found.female_ids == (female[found.common],)
    assert found.male_ids == (male[found.common],)
    assert female[found.common] != male[found.common]
    assert decision_token_count(loaded, prompt, ["a woman cook"], ["a man cook"]) == found.common > 0


def test_the_common_prefix_is_common_to_all_variants() -> None:
    found = find_decision([(1, 2, 3), (1, 2, 4, 5)], [(1, 9)])
    assert (found.common, found.female_ids, found.male_ids) == (1, (2,), (9,))
    assert find_decision([(7, 1)], [(8, 1), (8, 2)]).male_ids == (8,)


def test_continuations_that_begin_each_other_have_no_decision() -> None:
    with pytest.raises(InputError, match="beginning of another"):
        find_decision([(1, 2)], [(1, 2, 3)])
    with pytest.raises(InputError, match="at least one F and one M"):
        find_decision([], [(1,)])


def test_a_chat_template_places_the_picture_and_one_beginning_of_text_token(gemma3: LoadedModel, images: list) -> None:
    inputs = build_inputs(gemma3, images[:1], ["describe the picture"], use_chat_template=True)
    ids = list(inputs.prompts[0].ids)
    assert ids.count(gemma3.tokenizer.bos_token_id) == 1
    assert ids[0] == gemma3.tokenizer.bos_token_id
    text = gemma3.tokenizer.decode([token for token in ids if token != gemma3.adapter.image_token_id])
    assert text == "<bos><user>\n\n<start_of_image><end_of_image>\n\ndescribe the picture\n<model>\n"
    assert inputs.prompts[0].tail == "\n"


def test_a_chat_template_serves_text_only_models() -> None:
    inputs = build_inputs(build_family("llama"), None, ["describe"], use_chat_template=True)
    assert build_family("llama").tokenizer.decode(inputs.prompts[0].ids) == "<bos><user>describe\n<model>\n"


def test_a_model_without_chat_template_says_so() -> None:
    with pytest.raises(InputError, match=r"has no chat template; set model\.chat_template=false"):
        render_prompt(build_family("paligemma"), "describe", has_image=True, use_chat_template=True)


def test_the_models_own_placeholder_is_an_image_slot(image_family: LoadedModel, images: list) -> None:
    own = PROMPTS[0].replace("{image}", image_family.processor.image_token)
    assert build_inputs(image_family, images[:1], [own]).prompts == build_inputs(image_family, images[:1], PROMPTS[:1]).prompts


def test_a_prompt_that_ends_with_the_picture_adds_no_space(images: list) -> None:
    loaded = build_family("llava")
    inputs = build_inputs(loaded, images[:1], ["{image}"], ["a man"])
    assert inputs.prompts[0].tail == ""
    assert loaded.tokenizer.decode(inputs.captions[0]) == "a man"
