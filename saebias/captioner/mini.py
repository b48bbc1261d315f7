"""A captioner from real parts: frozen EfficientNet-Lite0, a small projector trained here, frozen Gemma 3 270M. LLaVA's classes join them.

The folder it is kept in lies in the user's cache: nothing of Gemma is part of this program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from saebias.captioner.efficientnet import CHANNELS, PIXEL_MEAN, PIXEL_STD, EfficientNetLiteConfig, load_tower, register
from saebias.captioner.model import greedy
from saebias.paths import cache_folder
from saebias.vlm.gguf_weights import load_directly, new_folder, packaged_model, write_sums
from saebias.vlm.model_files import quiet_transformers

NAME = "mini-gemma3"
LANGUAGE_MODEL = "gemma3-270m"
TOWER = EfficientNetLiteConfig(image_size=192)
# Gemma 3 270M has no token for pictures of its own; this one is in its vocabulary and stands in no text.
IMAGE_TOKEN = "<unused0>"
MAX_NEW_TOKENS = 24


@dataclass(frozen=True, eq=False)
class MiniParts:
    """The captioner in memory: its projector trains, all else is frozen."""

    model: LlavaForConditionalGeneration
    processor: LlavaProcessor

    @property
    def projector(self) -> Any:
        """The only part that is trained."""
        return self.model.model.multi_modal_projector

    @property
    def tower(self) -> Any:
        """The picture tower, float32."""
        return self.model.model.vision_tower

    @property
    def decoder(self) -> Any:
        """Gemma's decoder, without the output head."""
        return self.model.model.language_model


def mini_folder() -> Path:
    """Where the built captioner is kept."""
    return cache_folder() / NAME


def assemble(accepted: str | None, init_seed: int, announce: Callable[[str], object] = lambda _: None) -> MiniParts:
    """Tower and language model with their published weights, joined by a projector drawn from `init_seed`; decoder in bfloat16, the rest float32.

    Raises ModelError where the parts are not installed, or Gemma's terms not accepted.
    """
    register()
    tower = load_tower(TOWER)
    source = packaged_model(LANGUAGE_MODEL, accepted, announce)
    with quiet_transformers():
        language_model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
    processor = build_processor(tokenizer)
    config = build_config(language_model.config, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed)
        model = _joined(config, tower, language_model)
    model.generation_config = greedy(tokenizer, MAX_NEW_TOKENS)
    model.eval().requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    return MiniParts(model, processor)


def build_config(text_config: Any, image_token_id: int) -> LlavaConfig:
    """LLaVA's configuration over the tower and the language model."""
    return LlavaConfig(
        vision_config=TOWER,
        text_config=text_config,
        image_token_index=image_token_id,
        image_seq_length=(TOWER.image_size // TOWER.patch_size) ** 2,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
    )


def build_processor(tokenizer: Any) -> LlavaProcessor:
    """The processor: pictures by PIL alone, stretched to the tower's size; one image token per place of its last feature map."""
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE_TOKEN]})
    side = {"height": TOWER.image_size, "width": TOWER.image_size}
    pixels = CLIPImageProcessorPil(size=side, do_center_crop=False, image_mean=list(PIXEL_MEAN), image_std=list(PIXEL_STD), do_convert_rgb=True)
    return LlavaProcessor(
        pixels, tokenizer, patch_size=TOWER.patch_size, vision_feature_select_strategy="full", num_additional_image_tokens=0, image_token=IMAGE_TOKEN
    )


def _joined(config: LlavaConfig, tower: nn.Module, language_model: Any) -> LlavaForConditionalGeneration:
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = tower
    model.model.language_model = language_model.model
    model.lm_head = language_model.lm_head
    width, wide = language_model.config.hidden_size, CHANNELS
    projector = model.model.multi_modal_projector
    projector.linear_1, projector.linear_2 = nn.Linear(wide, width), nn.Linear(width, width)
    return model


def save_mini(parts: MiniParts, folder: Path, provenance: str) -> Path:
    """Write model, processor and `provenance` (JSON) to `folder`, all at once or not at all; weights keep their number formats."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as building, quiet_transformers():
        parts.model.save_pretrained(building)
        parts.processor.save_pretrained(building)
        load_directly(building, parts.processor.tokenizer)
        write_sums(building)
        (building / "provenance.json").write_text(provenance + "\n", encoding="utf-8")
    return folder
