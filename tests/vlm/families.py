"""Builders of the tiny models: `build_family(name)` gives the same seeded model every time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
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
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    MllamaConfig,
    MllamaImageProcessorPil,
    MllamaProcessor,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

from saebias.vlm.loading import LoadedModel, from_parts
from saebias.vlm.processors import without_video

IMAGE_FAMILIES = ("gemma3", "paligemma", "llava", "qwen2_vl", "qwen2_5_vl")
TEXT_FAMILIES = ("gemma3_text", "llama", "qwen2")
ALL_FAMILIES = (*IMAGE_FAMILIES, "mllama", *TEXT_FAMILIES)

SIDE = 32  # pixels
TEXT = ["a woman cook with a ball", "a man cook with a car", "describe the picture", "طباخة مع كرة", "طباخ مع سيارة", "صف الصورة"]
SPECIAL = {
    "bos": "<bos>",
    "eos": "<eos>",
    "pad": "<pad>",
    "unk": "<unk>",
    "image": "<image>",
    "boi": "<start_of_image>",
    "eoi": "<end_of_image>",
    "video": "<video>",
    "python": "<|python_tag|>",
}


def _tokenizer(*, with_bos: bool) -> Any:
    core = Tokenizer(models.BPE(unk_token=SPECIAL["unk"]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=list(SPECIAL.values()), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(TEXT * 4, trainer)
    if with_bos:
        bos = SPECIAL["bos"]
        core.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=SPECIAL["bos"],
        eos_token=SPECIAL["eos"],
        pad_token=SPECIAL["pad"],
        unk_token=SPECIAL["unk"],
        extra_special_tokens={
            "image_token": SPECIAL["image"],
            "boi_token": SPECIAL["boi"],
            "eoi_token": SPECIAL["eoi"],
            "video_token": SPECIAL["video"],
        },
    )
    # A stand-in for the templates of instruction-tuned models: it writes its own beginning-of-text token, as Gemma's does.
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<user>{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}IMAGE_SLOT{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{{ '\n' }}{% endfor %}{{ '<model>\n' }}"
    )
    return tokenizer


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
    "mllama": _mllama,
    "gemma3_text": _text_only(_gemma_text),
    "llama": _text_only(lambda vocab: LlamaConfig(**_text(vocab))),
    "qwen2": _text_only(lambda vocab: Qwen2Config(**_text(vocab))),
}


@functools.cache
def build_family(name: str) -> LoadedModel:
    """The tiny model of family `name` with its processor; weights are large enough for predictions to differ clearly."""
    tokenizer = _tokenizer(with_bos=name not in ("qwen2_vl", "qwen2_5_vl", "qwen2"))
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
    tokenizer = _tokenizer(with_bos=True)
    config, processor = _gemma3(tokenizer)
    config.text_config.final_logit_softcapping = cap
    torch.manual_seed(11)
    return from_parts(AutoModelForImageTextToText.from_config(config), tokenizer, processor, name="tiny-gemma3-softcap")


def dummy_prefix_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer like Llama's first one: it puts a space before every text."""
    core = Tokenizer(models.BPE(unk_token=SPECIAL["unk"]))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    core.decoder = decoders.Metaspace(prepend_scheme="always")
    core.train_from_iterator(
        [f"{text}\n" for text in TEXT] * 4, trainers.BpeTrainer(vocab_size=200, special_tokens=list(SPECIAL.values()), show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=SPECIAL["bos"], eos_token=SPECIAL["eos"], unk_token=SPECIAL["unk"])
