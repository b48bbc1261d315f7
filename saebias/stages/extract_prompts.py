"""How captions are put to the model: the prompt of each language, in the model's notation, with a name that rows carry."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saebias.config.schema import Config
from saebias.errors import InputError
from saebias.identifiers import LANGUAGES
from saebias.stages.model_access import prompts

if TYPE_CHECKING:
    from saebias.vlm.loading import LoadedModel


@dataclass(frozen=True)
class Wording:
    """The prompt of one language: as the model reads it, with `{caption}` where the caption stands inside."""

    language: str
    prompt: str
    rendered: str
    prompt_id: str
    """The language and a digest of all that the model is told besides picture and caption."""


def wordings(cfg: Config, loaded: LoadedModel) -> dict[str, Wording]:
    """The prompt per language.

    Raises InputError naming the key of a prompt that lacks its slot for the picture or the caption, has one too many, or is no token.
    """
    from saebias.vlm.prompts import CAPTION_SLOT, IMAGE_SLOT, prompt_tokens, render_prompt

    has_image = loaded.processor is not None
    found = {}
    for language in LANGUAGES:
        key, prompt = _configured(cfg, language)
        if not has_image and key is None:
            # The default instruction speaks to models that see; one that reads text alone gets it without the picture.
            prompt = prompt.replace(IMAGE_SLOT, "")
        place = key or f"model.prompt_{language} (the default)"
        if prompt.count(CAPTION_SLOT) != cfg.extract.caption_in_prompt:
            wants = f"write {CAPTION_SLOT} once in extract.prompt_{language}" if cfg.extract.caption_in_prompt else f"remove {CAPTION_SLOT} there"
            raise InputError(
                f"{place}: {prompt!r} has {prompt.count(CAPTION_SLOT)} caption slots and extract.caption_in_prompt={cfg.extract.caption_in_prompt}; "
                f"{wants}, or set extract.caption_in_prompt={str(not cfg.extract.caption_in_prompt).lower()}"
            )
        try:
            rendered = render_prompt(loaded, prompt, has_image=has_image, use_chat_template=cfg.model.chat_template)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        if not rendered and not prompt_tokens(loaded, rendered).ids:
            raise InputError(f"{place}: is empty, and the model's tokenizer puts no token in front of a text, so nothing says what comes first; write a prompt")
        digest = hashlib.sha256(rendered.encode()).hexdigest()[:8]
        found[language] = Wording(language, prompt, rendered, f"{language}-{digest}")
    return found


def _configured(cfg: Config, language: str) -> tuple[str | None, str]:
    """(the key that says it, or None; the prompt)."""
    for slice_name in ("extract", "model"):
        given = getattr(getattr(cfg, slice_name), f"prompt_{language}")
        if given is not None:
            return f"{slice_name}.prompt_{language}", given
    return None, prompts(cfg)[language]


def prompt_rows(cfg: Config, found: dict[str, Wording]) -> list[dict[str, object]]:
    """Rows of `extract_prompts`."""
    return [
        {
            "prompt_id": wording.prompt_id,
            "language": wording.language,
            "prompt": wording.prompt,
            "chat_template": cfg.model.chat_template,
            "caption_in_prompt": cfg.extract.caption_in_prompt,
        }
        for wording in found.values()
    ]
