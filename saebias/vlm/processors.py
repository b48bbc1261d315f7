"""The processor of a vision-language model, for pictures alone, on a machine without torchvision."""

from __future__ import annotations

from typing import Any

from transformers import AutoProcessor, PreTrainedConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING


class _WithoutVideo:
    """Put in front of a processor class whose video half needs torchvision: the picture and text half works without it."""

    # Named one by one: transformers hands over only what the signature names, and without `chat_template` the model's own template would be lost.
    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, video_processor: None = None, chat_template: str | None = None, **options: Any
    ) -> None:
        parent: Any = super()
        parent.__init__(image_processor, tokenizer, video_processor, chat_template=chat_template, **options)

    @classmethod
    def get_attributes(cls) -> list[str]:
        parent: Any = super()
        return [name for name in parent.get_attributes() if name != "video_processor"]


def without_video(processor_class: Any) -> Any:
    """A subclass, of the same name, that neither loads nor needs a video processor; other classes come back as they are."""
    if "video_processor" not in processor_class.get_attributes():
        return processor_class
    return type(processor_class.__name__, (_WithoutVideo, processor_class), {})


def load_processor(name: str, config: PreTrainedConfig, **options: Any) -> Any:
    """The processor of model `name`; its image processor is the PIL one wherever torchvision is missing."""
    known: Any = PROCESSOR_MAPPING
    if type(config) in known:
        return without_video(known[type(config)]).from_pretrained(name, **options)
    return AutoProcessor.from_pretrained(name, **options)
