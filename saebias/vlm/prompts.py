"""Prompts and captions as tokens: the image slot, chat templates, and the boundary between prompt and caption.

The boundary: a caption is tokenised as text that follows the prompt. One space is put between them unless the prompt ends, or the caption begins, with
white space; then the caption's tokens are those that the tokenizer gives it behind the prompt's last character. So a caption written without a leading
space has exactly the tokens that the model generates for it, and generated captions come back without the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saebias.errors import InputError
from saebias.vlm.loading import LoadedModel

IMAGE_SLOT = "{image}"
CAPTION_SLOT = "{caption}"


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the model reads it: token ids with the picture's placeholders, type ids if the processor gives any, and the last character."""

    ids: tuple[int, ...]
    type_ids: tuple[int, ...] | None
    tail: str


@dataclass(frozen=True)
class Decision:
    """Where F and M captions part: `common` tokens are shared, then come `female_ids` or `male_ids` (the first differing tokens, without repeats).

    With a prompt of p tokens, position p - 1 + common holds the next-token distribution that decides the gender.
    """

    common: int
    female_ids: tuple[int, ...]
    male_ids: tuple[int, ...]


def image_placeholder(loaded: LoadedModel) -> str:
    """The text that stands for a picture in prompts of this model; raises InputError for a text-only model."""
    if loaded.processor is None:
        raise InputError(f"model {loaded.name} reads text only; leave images out, or choose a vision-language model")
    return loaded.processor.image_token


def render_prompt(loaded: LoadedModel, prompt: str, *, has_image: bool, use_chat_template: bool = False) -> str:
    """The prompt in the model's own notation.

    A plain prompt with a picture says where the picture goes by `{image}` or the model's own placeholder, once. With `use_chat_template` the
    template places the picture in front of the text, and a slot in the prompt is dropped. Raises InputError for a missing or repeated slot.
    """
    if use_chat_template:
        return _render_chat(loaded, prompt.replace(IMAGE_SLOT, ""), has_image)
    if not has_image:
        if IMAGE_SLOT in prompt:
            raise InputError(f"prompt {prompt!r} has an image slot but no picture is given; remove {IMAGE_SLOT} or give images")
        return prompt
    placeholder = image_placeholder(loaded)
    rendered = prompt.replace(IMAGE_SLOT, placeholder)
    if rendered.count(placeholder) != 1:
        raise InputError(f"prompt {prompt!r} has {rendered.count(placeholder)} image slots; write {IMAGE_SLOT} once, where the picture goes")
    return rendered


def _render_chat(loaded: LoadedModel, prompt: str, has_image: bool) -> str:
    speaker: Any = loaded.tokenizer if loaded.processor is None else loaded.processor
    if speaker.chat_template is None:
        raise InputError(f"model {loaded.name} has no chat template; set model.chat_template=false and write the prompt in full")
    content: Any = prompt
    if loaded.processor is not None:
        content = ([{"type": "image"}] if has_image else []) + [{"type": "text", "text": prompt}]
    return speaker.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)


def adds_special_tokens(loaded: LoadedModel, rendered: str) -> bool:
    """Whether the tokenizer is to begin a rendered prompt: a chat template writes the beginning-of-text token itself, and there must not be a second one."""
    bos = loaded.tokenizer.bos_token
    return not (bos and rendered.startswith(bos))


def prompt_tokens(loaded: LoadedModel, rendered: str, image: Any = None) -> PromptTokens:
    """The tokens of a rendered prompt; `image` is the picture that its placeholder stands for, or one of the same size."""
    add_special = adds_special_tokens(loaded, rendered)
    if image is None:
        ids = loaded.tokenizer(rendered, add_special_tokens=add_special)["input_ids"]
        return PromptTokens(tuple(ids), None, _tail(loaded, ids))
    output = loaded.processor(images=[[image]], text=[rendered], add_special_tokens=add_special)
    ids = list(output["input_ids"][0])
    name = loaded.adapter.type_ids_name
    type_ids = None if name is None else tuple(int(kind) for kind in output[name][0])
    return PromptTokens(tuple(int(token) for token in ids), type_ids, _tail(loaded, ids))


def prompt_with_caption(loaded: LoadedModel, rendered: str, caption: str, image: Any = None) -> tuple[PromptTokens, tuple[int, int]]:
    """The tokens of a rendered prompt with the caption in its `{caption}`, and the positions at which the caption's tokens begin and end.

    A token that holds the caption's last letters and text behind them counts as the caption's. Raises InputError for a model without a fast tokenizer.
    """
    if not loaded.tokenizer.is_fast:
        raise InputError(f"model {loaded.name} has no fast tokenizer, so captions cannot be found inside prompts; set extract.caption_in_prompt=false")
    before, after = rendered.split(CAPTION_SLOT)
    text = before + caption + after
    tokens = prompt_tokens(loaded, text, image)
    encoded = loaded.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    inside = _touching(encoded["offset_mapping"], len(before), len(before) + len(caption))
    ids = tuple(encoded["input_ids"][inside[0] : inside[-1] + 1]) if inside else ()
    # The processor makes many tokens of a picture's placeholder, and some families add their own: the caption is where its tokens are, nearest the place.
    expected = inside[0] + (len(tokens.ids) - len(encoded["input_ids"]) if image is not None and image_placeholder(loaded) in before else 0) if inside else 0
    places = [place for place in range(len(tokens.ids) - len(ids) + 1) if tokens.ids[place : place + len(ids)] == ids]
    if not ids or not places:
        raise InputError(f"caption {caption!r} is not to be found among the tokens of its prompt; set extract.caption_in_prompt=false")
    start = min(places, key=lambda place: abs(place - expected))
    return tokens, (start, start + len(ids))


def tokens_inside(loaded: LoadedModel, rendered: str, captions: Sequence[str]) -> list[int]:
    """How many tokens of the rendered prompt hold letters of the caption in its `{caption}`, per caption; needs a fast tokenizer."""
    if not captions:
        return []
    before, after = rendered.split(CAPTION_SLOT)
    encoded = loaded.tokenizer([before + caption + after for caption in captions], add_special_tokens=False, return_offsets_mapping=True)
    ends = (len(before) + len(caption) for caption in captions)
    return [len(_touching(offsets, len(before), end)) for offsets, end in zip(encoded["offset_mapping"], ends, strict=True)]


def _touching(offsets: Sequence[tuple[int, int]], start: int, end: int) -> list[int]:
    """The tokens that hold letters from `start` to `end` of the text."""
    return [index for index, (first, last) in enumerate(offsets) if first < end and last > start]


def _tail(loaded: LoadedModel, ids: Sequence[int]) -> str:
    if not ids or ids[-1] in loaded.tokenizer.all_special_ids or ids[-1] == loaded.adapter.image_token_id:
        return ""
    text = [token for token in ids if token != loaded.adapter.image_token_id]
    return loaded.tokenizer.decode(text, skip_special_tokens=True, clean_up_tokenization_spaces=False)[-1:]


def caption_tokens(loaded: LoadedModel, prompt: PromptTokens, captions: Sequence[str]) -> list[tuple[int, ...]]:
    """The token ids of captions behind a prompt, without special tokens; the module's docstring tells how the boundary is handled."""
    encode = loaded.tokenizer
    if not captions:
        return []
    if not prompt.tail:
        return [tuple(ids) for ids in encode(list(captions), add_special_tokens=False)["input_ids"]]
    anchor = encode(prompt.tail, add_special_tokens=False)["input_ids"]
    joined = [prompt.tail + ("" if prompt.tail.isspace() or caption[:1].isspace() or not caption else " ") + caption for caption in captions]
    tokens = []
    for caption, ids in zip(captions, encode(joined, add_special_tokens=False)["input_ids"], strict=True):
        if ids[: len(anchor)] != anchor:
            # The caption's beginning merges with the prompt's last character; generation cannot do that, so the caption stands alone.
            ids = anchor + encode(caption, add_special_tokens=False)["input_ids"]
        tokens.append(tuple(ids[len(anchor) :]))
    return tokens


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest common beginning of all sequences."""
    shortest = min(len(sequence) for sequence in sequences)
    for index in range(shortest):
        if len({sequence[index] for sequence in sequences}) > 1:
            return index
    return shortest


def find_decision(female: Sequence[Sequence[int]], male: Sequence[Sequence[int]]) -> Decision:
    """The decision between two sets of token sequences.

    Raises InputError when one set is empty, or when one sequence is the beginning of another across the sets: then no single token decides.
    """
    if not female or not male:
        raise InputError("a decision needs at least one F and one M continuation")
    common = common_prefix([*female, *male])
    if common == min(len(sequence) for sequence in [*female, *male]):
        raise InputError("one continuation is the beginning of another, so their probabilities overlap; make them differ before they end")
    return Decision(common, tuple(dict.fromkeys(ids[common] for ids in female)), tuple(dict.fromkeys(ids[common] for ids in male)))


def decision(loaded: LoadedModel, prompt: PromptTokens, f_texts: Sequence[str], m_texts: Sequence[str]) -> Decision:
    """Where the F and M continuations of a prompt part (see Decision)."""
    return find_decision(caption_tokens(loaded, prompt, f_texts), caption_tokens(loaded, prompt, m_texts))


def decision_token_count(loaded: LoadedModel, prompt: PromptTokens, f_texts: Sequence[str], m_texts: Sequence[str]) -> int:
    """Number of tokens that all F and M continuations of a prompt share before the gender shows."""
    return decision(loaded, prompt, f_texts, m_texts).common
