"""The captioner's architecture: transformers' own Gemma 3 classes in a small size, saved and loaded as a hub model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Gemma3TextConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from saebias.captioner.spec import CaptionerSpec
from saebias.captioner.tokenizer import BEGIN_IMAGE, END_IMAGE, IMAGE, build_tokenizer

MAX_NEW_TOKENS = 16


def build_config(spec: CaptionerSpec, tokenizer: PreTrainedTokenizerFast) -> Gemma3Config:
    """The Gemma 3 configuration of `spec`, with the token ids of `tokenizer`."""
    sizes, ids = spec.model, tokenizer.get_vocab()
    text = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_value_heads,
        head_dim=sizes.hidden_size // sizes.heads,
        query_pre_attn_scalar=sizes.hidden_size // sizes.heads,
        max_position_embeddings=256,
        sliding_window=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    vision = SiglipVisionConfig(
        hidden_size=sizes.vision_hidden_size,
        intermediate_size=sizes.vision_intermediate_size,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        image_size=spec.image_size,
        patch_size=sizes.patch_size,
        vision_use_head=False,
    )
    return Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=sizes.image_tokens,
        boi_token_index=ids[BEGIN_IMAGE],
        eoi_token_index=ids[END_IMAGE],
        image_token_index=ids[IMAGE],
    )


def greedy(tokenizer: Any, max_new_tokens: int) -> GenerationConfig:
    """Greedy captions of at most `max_new_tokens` tokens, with the tokenizer's special tokens."""
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def build_model(spec: CaptionerSpec) -> Gemma3ForConditionalGeneration:
    """An untrained captioner in float32, its weights drawn from `spec.training.init_seed`."""
    tokenizer = build_tokenizer(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.training.init_seed)
        model = Gemma3ForConditionalGeneration(build_config(spec, tokenizer))
        # transformers leaves this matrix at zero, because it expects pretrained weights; from zero no picture would reach the decoder at first.
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=spec.model.vision_hidden_size**-0.5)
    # On a CPU the fused attention's backward pass takes longer than all the rest of a step on sequences as short as these; a loaded model uses it again.
    model.set_attn_implementation("eager")
    model.generation_config = greedy(tokenizer, MAX_NEW_TOKENS)
    return model


def build_processor(spec: CaptionerSpec) -> Gemma3Processor:
    """The processor of `spec`: pictures by PIL alone (no torchvision), text by the small tokenizer."""
    side = {"height": spec.image_size, "width": spec.image_size}
    images = Gemma3ImageProcessorPil(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True, do_pan_and_scan=False)
    return Gemma3Processor(image_processor=images, tokenizer=build_tokenizer(spec), image_seq_length=spec.model.image_tokens)


def save_captioner(model: Gemma3ForConditionalGeneration, spec: CaptionerSpec, folder: Path) -> Path:
    """Write model (float16) and processor to `folder` so that the Auto classes of transformers load them; the model in memory is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().to(torch.float16) for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights)
    build_processor(spec).save_pretrained(folder)
    return folder
