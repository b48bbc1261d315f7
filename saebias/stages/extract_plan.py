"""Which caption's activations lie where: whole captions to a shard, in order of sample, so that a failed one never moves another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saebias.config.schema import Config
from saebias.errors import InputError
from saebias.identifiers import LANGUAGES
from saebias.pipeline.stage import StageContext
from saebias.stages.extract_prompts import Wording
from saebias.stages.token_index import text_column

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.vlm.loading import LoadedModel
    from saebias.vlm.prompts import PromptTokens

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """What extraction needs to know of a sample; few bytes, because there may be very many."""

    sample_id: str
    split: str
    context: str | None
    image_path: str
    size: Size
    """Width and height in pixels."""
    captions: tuple[str | None, ...]
    """In order of LANGUAGES."""
    image_id: str | None = None
    """The picture that was checked, by its content; None takes whatever lies there."""


@dataclass(frozen=True, slots=True)
class Item:
    """A sample in one language, with its place in the shard."""

    sample: Sample
    language: str
    caption: str | None
    n_tokens: int
    """Tokens of the longest row that the model is run on."""
    start: int
    """First activation row within the shard."""
    span: int
    """Rows reserved."""
    reason: str | None = None
    """Why it cannot be run at all."""


def read_samples(ctx: StageContext) -> list[Sample]:
    """The samples of the corpus by sample id, with the sizes of their pictures."""
    images = ctx.table("images")
    size_of = dict(zip(images["image_id"].to_pylist(), zip(images["width"].to_pylist(), images["height"].to_pylist(), strict=True), strict=True))
    names = ("sample_id", "split", "context", "image_path", "image_id", "caption_en", "caption_ar")
    # Columns whose texts repeat share them: a corpus of millions must fit beside the model.
    columns = [text_column(ctx.table("samples").sort_by("sample_id"), name) for name in names]
    return [
        Sample(sample_id, split, context, path, size_of[image_id], (english, arabic), image_id)
        for sample_id, split, context, path, image_id, english, arabic in zip(*columns, strict=True)
    ]


def hook_points(cfg: Config, n_layers: int) -> list[HookPoint]:
    """The hook points that the configuration asks for; raises InputError for a layer that does not exist, naming the range."""
    from saebias.identifiers import HookPoint

    wanted = cfg.extract.layers
    if wanted == "all":
        layers = list(range(n_layers))
    elif isinstance(wanted, int):
        if not 1 <= wanted <= n_layers:
            raise InputError(f"extract.layers={wanted}: the model has {n_layers} layers; ask for 1 to {n_layers} evenly spaced ones, a list, or all")
        layers = sorted({round(x) for x in np.linspace(0, n_layers - 1, wanted)}) if wanted > 1 else [n_layers - 1]
    else:
        layers = list(dict.fromkeys(wanted))
    for layer in layers:
        if not 0 <= layer < n_layers:
            raise InputError(f"extract.layers: layer {layer} does not exist; the model has layers 0 to {n_layers - 1}")
    return [HookPoint(layer, site) for layer in layers for site in dict.fromkeys(cfg.extract.sites)]


def plan_shards(cfg: Config, loaded: LoadedModel, samples: Sequence[Sample], words: Mapping[str, Wording]) -> list[list[Item]]:
    """The shards; a caption that is missing, or that the model cannot take, is there without rows and with the reason.

    Raises InputError when one caption alone is longer than a shard.
    """
    spoken = [language for number, language in enumerate(LANGUAGES) if any(sample.captions[number] is not None for sample in samples)]
    shows_caption = cfg.extract.tokens.caption or cfg.extract.caption_in_prompt
    if not spoken and shows_caption:
        raise InputError("extract: no sample has a caption; name caption columns in data.columns, or set extract.tokens.caption=false")
    measure = Measure(cfg, loaded, words, samples)
    shards: list[list[Item]] = [[]]
    used = 0
    for sample in samples:
        for number, language in enumerate(LANGUAGES):
            if shows_caption and language not in spoken:
                continue
            item = measure.item(sample, language, sample.captions[number])
            if used + item.span > cfg.extract.shard_rows:
                shards.append([])
                used = 0
            shards[-1].append(Item(sample, language, item.caption, item.n_tokens, used, item.span, item.reason))
            used += item.span
    return shards


class Measure:
    """How many tokens and rows captions take; each distinct caption and picture size is measured once."""

    def __init__(self, cfg: Config, loaded: LoadedModel, words: Mapping[str, Wording], samples: Sequence[Sample]) -> None:
        self._cfg, self._loaded, self._words = cfg, loaded, words
        self._inside = cfg.extract.caption_in_prompt
        self._prompts = {language: self._prompts_by_size(language, samples) for language in LANGUAGES}
        self._lengths: dict[tuple[str, str], int] = {}
        for number, language in enumerate(LANGUAGES):
            texts = list(dict.fromkeys(text for sample in samples if (text := sample.captions[number]) is not None))
            self._lengths |= {(language, text): count for text, count in zip(texts, self._caption_lengths(language, texts), strict=True)}

    def item(self, sample: Sample, language: str, caption: str | None) -> Item:
        """The item without its place in a shard."""
        tokens = self._cfg.extract.tokens
        behind = tokens.caption and not self._inside
        if caption is None and (behind or self._inside):
            return Item(sample, language, None, 0, 0, 0, f"the sample has no caption in language {language}")
        prompt = self._prompts[language].get(sample.size)
        if isinstance(prompt, str) or prompt is None:
            return Item(sample, language, caption, 0, 0, 0, prompt)
        n_caption = 0 if caption is None or not (behind or self._inside) else self._lengths[language, caption]
        if n_caption < 0:
            return Item(sample, language, caption, 0, 0, 0, f"its caption {caption!r} holds the model's mark for a picture")
        n_image = sum(token == self._loaded.adapter.image_token_id for token in prompt.ids) if self._loaded.adapter.has_image_tokens else 0
        total = len(prompt.ids) + n_caption
        if total > self._loaded.adapter.max_positions:
            return Item(sample, language, caption, 0, 0, 0, self._too_long(len(prompt.ids), n_caption))
        kept_image = n_image if tokens.image == "all" else 0 if tokens.image == "none" else min(tokens.image, n_image)
        # One row for a decision, and one for the last position, that no kept kind covers.
        span = kept_image + tokens.prompt * (len(prompt.ids) - n_image) + tokens.caption * n_caption + tokens.decision + tokens.last
        if span > self._cfg.extract.shard_rows:
            raise InputError(
                f"sample {sample.sample_id}: its {language} caption takes {span} rows, more than extract.shard_rows={self._cfg.extract.shard_rows}; raise that"
            )
        return Item(sample, language, caption, total, 0, span)

    def _too_long(self, n_prompt: int, n_caption: int) -> str:
        return f"its prompt of {n_prompt} and caption of {n_caption} tokens are longer than the model's context of {self._loaded.adapter.max_positions} tokens"

    def _caption_lengths(self, language: str, texts: Sequence[str]) -> list[int]:
        """Tokens of each caption, or -1 where one holds a token or the text that stands for a picture."""
        from saebias.vlm.prompts import caption_tokens, tokens_inside

        prompt = next((prompt for prompt in self._prompts[language].values() if not isinstance(prompt, str)), None)
        if prompt is None or not texts:
            return [0] * len(texts)
        if self._inside:
            before, after = self._words[language].rendered.split("{caption}")
            joined = self._loaded.tokenizer([before + text + after for text in texts], add_special_tokens=False)["input_ids"]
            empty = len(self._loaded.tokenizer(before + after, add_special_tokens=False)["input_ids"])
            own = [len(ids) - empty for ids in joined]
            if not self._cfg.extract.tokens.prompt and self._loaded.tokenizer.is_fast:
                # A token may hold the caption's first letters and text of the prompt: kept alone, captions take more rows than they add to the prompt.
                own = [max(pair) for pair in zip(own, tokens_inside(self._loaded, self._words[language].rendered, texts), strict=True)]
        else:
            own = [len(ids) for ids in caption_tokens(self._loaded, prompt, texts)]
        marks = self._loaded.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        # The placeholder of a prompt need not be the token of the picture's parts: Gemma 3 writes another.
        placeholder = None if self._loaded.processor is None else self._loaded.processor.image_token
        is_marked = [
            self._loaded.adapter.image_token_id in ids or (placeholder is not None and placeholder in text) for text, ids in zip(texts, marks, strict=True)
        ]
        return [-1 if marked else count for count, marked in zip(own, is_marked, strict=True)]

    def _prompts_by_size(self, language: str, samples: Sequence[Sample]) -> dict[Size, PromptTokens | str]:
        """The prompt's tokens (without a caption) per picture size, or why the model refuses a picture of that size."""
        from saebias.vlm.prompts import prompt_tokens

        rendered = self._words[language].rendered.replace("{caption}", "")
        sizes = list(dict.fromkeys(sample.size for sample in samples))
        if self._loaded.processor is None:
            alone = prompt_tokens(self._loaded, rendered)
            return dict.fromkeys(sizes, alone)
        extremes = {size: self._with_blank(rendered, size) for size in _extremes(sizes)}
        first = next(iter(extremes.values()))
        if all(prompt == first for prompt in extremes.values()):
            return dict.fromkeys(sizes, first)
        return {size: extremes[size] if size in extremes else self._with_blank(rendered, size) for size in sizes}

    def _with_blank(self, rendered: str, size: Size) -> PromptTokens | str:
        from PIL import Image

        from saebias.vlm.prompts import prompt_tokens

        try:
            return prompt_tokens(self._loaded, rendered, Image.new("RGB", size))
        except ValueError as error:
            return f"the model's image processor refuses a picture of {size[0]} x {size[1]} pixels: {' '.join(str(error).split())}"


def _extremes(sizes: Iterable[Size]) -> list[Size]:
    """The smallest, largest, widest and tallest of the sizes."""
    keys = (lambda s: s[0] * s[1], lambda s: s[0] / s[1])
    return list(dict.fromkeys([pick(sizes, key=key) for key in keys for pick in (min, max)]))
