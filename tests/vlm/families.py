"""Builders of the tiny models: `build_family(name)` gives the same seeded model every time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaConfig,
    Idefics3Config,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    MllamaConfig,
    MllamaImageProcessorPil,
    MllamaProcessor,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SmolVLMConfig,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

from saebias.vlm.loading import LoadedModel, from_parts
from saebias.vlm.processors import without_video
from tests.vlm.tiny_tokenizers import SPECIAL, byte_tokenizer

IMAGE_FAMILIES = ("gemma3", "paligemma", "llava", "qwen2_vl", "qwen2_5_vl", "idefics3", "smolvlm")
TEXT_FAMILIES = ("gemma3_text", "llama", "qwen2")
ALL_FAMILIES = (*IMAGE_FAMILIES, "mllama", *TEXT_FAMILIES)

SIDE = 32  # pixels


def _text(vocab: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }


def _gemma_text(vocab: int) -> Gemma3TextConfig:
    # A window of 8 is shorter than a prompt with its picture, so that the sliding layers are really exercised; with tied embeddings a random model
    # would repeat its last token for ever.
    return Gemma3TextConfig(
        **_text(vocab),
        tie_word_embeddings=False,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )


def _siglip(projection_dim: int | None = None) -> SiglipVisionConfig:
    extra: dict[str, Any] = {} if projection_dim is None else {"projection_dim": projection_dim}
    return SiglipVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8, vision_use_head=False, **extra
    )


def _gemma3(tokenizer: Any) -> tuple[PreTrainedConfig, object]:
    config = Gemma3Config(
        text_config=_gemma_text(len(tokenizer)),
        vision_config=_siglip(),
        tie_word_embeddings=False,
        mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids(SPECIAL["image"]),
        boi_token_index=tokenizer.convert_tokens_to_ids(SPECIAL["boi"]),
        eoi_token_index=tokenizer.convert_tokens_to_ids(SPECIAL["eoi"]),
    )
    template = tokenizer.chat_template.replace("IMAGE_SLOT", SPECIAL["boi"])
    processor = Gemma3Processor(Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}), tokenizer, image_seq_length=4, chat_template=template)
    return config, processor


def _paligemma(tokenizer: Any) -> tuple[PreTrainedConfig, object]:
    processor = PaliGemmaProcessor(SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_seq_length=16), tokenizer)
    config = PaliGemmaConfig(
        text_config=GemmaConfig(**_text(len(tokenizer)), head_dim=8).to_dict(),
        vision_config=_siglip(projection_dim=32).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids(SPECIAL["image"]),
        projection_dim=32,
        hidden_size=32,
    )
    return config, processor


def _llava(tokenizer: Any) -> tuple[PreTrainedConfig, object]:
    config = LlavaConfig(
        text_config=LlamaConfig(**_text(len(tokenizer))),
        vision_config=CLIPVisionConfig(hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=8),
        image_token_index=tokenizer.convert_tokens_to_ids(SPECIAL["image"]),
        image_seq_length=16,
    )
    pixels = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = LlavaProcessor(pixels, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1)
    return config, processor


def _qwen2_vl(tokenizer: Any) -> tuple[PreTrainedConfig, object]:
    text = _text(len(tokenizer)) | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}}
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 8, "mlp_ratio": 2}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, **_qwen_tokens(tokenizer))
    return config, without_video(Qwen2VLProcessor)(_qwen_pixels(), tokenizer)


def _qwen2_5_vl(tokenizer: Any) -> tuple[PreTrainedConfig, object]:
    text = _text(len(tokenizer)) | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}}
    vision: dict[str, Any] = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 8, "out_hidden_size": 32}
    vision |= {"window_size": 32, "fullatt_block_indexes": [1]}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_tokens(tokenizer))
    return config, without_video(Qwen2_5_VLProcessor)(_qwen_pixels(), tokenizer)


def _qwen_tokens(tokenizer: Any) -> dict[str, Any]:
    names = {"image_token_id": "image", "video_token_id": "video", "vision_start_token_id": "boi", "vision_end_token_id": "eoi"}
    return {key: tokenizer.convert_tokens_to_ids(SPECIAL[name]) for key, name in names.items()}


def _qwen_pixels() -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, size={"shortest_edge": 256, "longest_edge": 4096})


def _idefics3(config_class: type[Idefics3Config] | type[SmolVLMConfig], tokenizer: Any) -> tuple[PreTrainedConfig, object]:
    # Its SmolVLM twin reads the same inputs; SmolVLM's own processor wants the package num2words, which only videos need.
    vision = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
    text = LlamaConfig(**_text(len(tokenizer))).to_dict()
    config = config_class(text_config=text, vision_config=vision, scale_factor=2, image_token_id=tokenizer.convert_tokens_to_ids(SPECIAL["image"]))
    pixels = Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    return config, Idefics3Processor(pixels, tokenizer, image_seq_len=4)


def _mllama(tokenizer: Any) -> tuple[PreTrainedConfig, object]:
    text = MllamaTextConfig(**_text(len(tokenizer)), cross_attention_layers=[1])
    vision = MllamaVisionConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_global_layers=1,
        attention_heads=2,
        image_size=SIDE,
        patch_size=8,
        vision_output_dim=48,
        intermediate_layers_indices=[0],
        max_num_tiles=1,
        supported_aspect_ratios=[[1, 1]],
    )
    config = MllamaConfig(text_config=text, vision_config=vision, image_token_index=tokenizer.convert_tokens_to_ids(SPECIAL["image"]))
    processor = MllamaProcessor(MllamaImageProcessorPil(size={"height": SIDE, "width": SIDE}, max_image_tiles=1), tokenizer)
    return config, processor


def _text_only(config: Callable[[int], PreTrainedConfig]) -> Callable[[Any], tuple[PreTrainedConfig, object]]:
    return lambda tokenizer: (config(len(tokenizer)), None)


BUILDERS: dict[str, Callable[[Any], tuple[PreTrainedConfig, object]]] = {
    "gemma3": _gemma3,
    "paligemma": _paligemma,
    "llava": _llava,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "idefics3": functools.partial(_idefics3, Idefics3Config),
    "smolvlm": functools.partial(_idefics3, SmolVLMConfig),
    "mllama": _mllama,
    "gemma3_text": _text_only(_gemma_text),
    "llama": _text_only(lambda vocab: LlamaConfig(**_text(vocab))),
    "qwen2": _text_only(lambda vocab: Qwen2Config(**_text(vocab))),
}


@functools.cache
def build_family(name: str) -> LoadedModel:
    """The tiny model of family `name` with its processor; weights are large enough for predictions to differ clearly."""
    tokenizer = byte_tokenizer(with_bos=name not in ("qwen2_vl", "qwen2_5_vl", "qwen2"))
    config, processor = BUILDERS[name](tokenizer)
    torch.manual_seed(11)
    auto = AutoModelForCausalLM if processor is None else AutoModelForImageTextToText
    model = auto.from_config(config)
    generator = torch.Generator().manual_seed(12)
    with torch.no_grad():
        for parameter in model.parameters():
            # The default initialisation (0.02, zero projector and gates) makes every logit alike and the picture invisible.
            scale = 0.3 if parameter.ndim > 1 else 0.1
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return from_parts(model, tokenizer, processor, name=f"tiny-{name}")


def gemma3_with_softcap(cap: float) -> LoadedModel:
    """A Gemma 3 with pictures whose text config names a soft-cap: its class does not apply one."""
    tokenizer = byte_tokenizer(with_bos=True)
    config, processor = _gemma3(tokenizer)
    config.text_config.final_logit_softcapping = cap
    torch.manual_seed(11)
    return from_parts(AutoModelForImageTextToText.from_config(config), tokenizer, processor, name="tiny-gemma3-softcap")
