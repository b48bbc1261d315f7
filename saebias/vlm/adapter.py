"""What the program needs to know of a model, read off its structure rather than its name.

Shapes: N rows, D model width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saebias.errors import ModelError
from saebias.identifiers import HookPoint

# Prefix language models read image and prompt bidirectionally, so the picture's activations depend on the prompt that follows it.
# Nothing in the structure of the modules shows that.
PREFIX_LANGUAGE_MODELS = frozenset({"paligemma"})


@dataclass(frozen=True, eq=False)
class Adapter:
    """The parts of one model: `layers` of the text decoder, its final `norm`, the output `head`, and how it takes pictures."""

    family: str
    model: Any  # transformers' models differ in more than a common type could say
    decoder: nn.Module
    layers: nn.ModuleList
    norm: nn.Module
    head: nn.Module
    d_model: int
    vocab_size: int
    max_positions: int
    image_token_id: int | None
    softcap: float | None
    type_ids_name: str | None
    takes_cached_images: bool
    is_prefix_lm: bool
    rope_index: Callable[..., tuple[Tensor, Tensor]] | None

    @property
    def n_layers(self) -> int:
        """Number of decoder layers; hook points count them from 0."""
        return len(self.layers)

    @property
    def has_image_tokens(self) -> bool:
        """Whether the picture stands in the token sequence (not so where it enters by cross-attention)."""
        return self.image_token_id is not None and self.takes_cached_images

    def unembed(self, x_ND: Tensor) -> Tensor:
        """Logits (..., V) of residual-stream vectors (..., D): final norm, output head and the model's own soft-cap, if it applies one."""
        logits_NV = self.head(self.norm(x_ND))
        return logits_NV if self.softcap is None else torch.tanh(logits_NV / self.softcap) * self.softcap

    def layer(self, index: int) -> nn.Module:
        """Decoder layer `index`; raises ModelError naming the range."""
        if not 0 <= index < self.n_layers:
            raise ModelError(f"layer {index} does not exist in this {self.family} model; its layers are 0 to {self.n_layers - 1}")
        return self.layers[index]

    def module(self, hook: HookPoint) -> nn.Module:
        """The module whose output is `hook`: for attn_out and mlp_out, the last one before the sum into the residual stream."""
        layer = self.layer(hook.layer)
        if hook.site == "resid_post":
            return layer
        children = dict(layer.named_children())
        # Gemma 2 and 3 norm each block's output before adding it; elsewhere `post_attention_layernorm` is the norm in front of the MLP.
        is_sandwich = "pre_feedforward_layernorm" in children
        if hook.site == "attn_out":
            name = "post_attention_layernorm" if is_sandwich else "self_attn"
        else:
            name = "post_feedforward_layernorm" if is_sandwich else "mlp"
        if "self_attn" not in children or name not in children:
            raise ModelError(
                f"{hook} cannot be hooked: layer {hook.layer} of this {self.family} model is a {type(layer).__name__}, whose blocks "
                "do not enter the residual stream as a plain sum; use the site resid_post"
            )
        return children[name]


def build_adapter(model: Any) -> Adapter:
    """The adapter of a transformers model in memory; raises ModelError where its structure is not understood."""
    config = model.config
    text_config = config.get_text_config(decoder=True)
    decoder = model.get_decoder()
    layers = _decoder_layers(decoder, text_config.num_hidden_layers)
    head = model.get_output_embeddings()
    norm = dict(decoder.named_children()).get("norm")
    if head is None or norm is None:
        missing = "no output embeddings" if head is None else f"a decoder {type(decoder).__name__} without a final `norm`"
        raise ModelError(f"{type(model).__name__} has {missing}; saebias needs a causal language model with `layers`, `norm` and a language-model head")
    parameters = inspect.signature(model.forward).parameters
    type_names = [name for name in ("token_type_ids", "mm_token_type_ids") if name in parameters]
    base = model.base_model
    return Adapter(
        family=config.model_type,
        model=model,
        decoder=decoder,
        layers=layers,
        norm=norm,
        head=head,
        d_model=text_config.hidden_size,
        vocab_size=head.weight.shape[0],
        max_positions=text_config.max_position_embeddings,
        image_token_id=getattr(config, "image_token_id", None),
        softcap=_measured_softcap(model, norm, head, text_config),
        type_ids_name=type_names[0] if type_names else None,
        takes_cached_images="mm_encoder_outputs" in parameters,
        is_prefix_lm=config.model_type in PREFIX_LANGUAGE_MODELS,
        rope_index=getattr(base, "get_rope_index", None),
    )


def _decoder_layers(decoder: nn.Module, n_layers: int) -> nn.ModuleList:
    found = [child for child in decoder.children() if isinstance(child, nn.ModuleList) and len(child) == n_layers]
    if len(found) != 1:
        raise ModelError(
            f"the decoder {type(decoder).__name__} has {len(found)} module lists of {n_layers} layers, saebias expects exactly one; "
            "this architecture is not supported"
        )
    return found[0]


@torch.no_grad()
def _measured_softcap(model: Any, norm: nn.Module, head: nn.Module, text_config: object) -> float | None:
    """The soft-cap that the model really applies to its logits: some classes ignore the one in their config.

    Two tokens are run with the final norm's output blown up until the largest logit equals the cap, where capped and plain logits differ by a quarter.
    """
    cap = getattr(text_config, "final_logit_softcapping", None)
    plain: list[Tensor] = []

    def blow_up(_module: nn.Module, _args: tuple, output: Tensor) -> Tensor:
        scale = 1.0 if cap is None else cap / head(output).abs().max()
        plain.append(head(output * scale))
        return output * scale

    handle = norm.register_forward_hook(blow_up)
    try:
        ids = torch.tensor([[0, 1]], device=model.get_input_embeddings().weight.device)
        logits = model(input_ids=ids, use_cache=False).logits.float()
    finally:
        handle.remove()
    expected = plain[-1].float()
    tolerance = 1e-4 if logits.dtype == head.weight.dtype else 3e-2
    atol = tolerance * float(expected.abs().max())
    if torch.allclose(logits, expected, atol=atol, rtol=0):
        return None
    if cap is not None and torch.allclose(logits, torch.tanh(expected / cap) * cap, atol=atol, rtol=0):
        return float(cap)
    raise ModelError(
        f"the logits of {type(model).__name__} are not its output head applied to its final norm, so a lens would not match the model; not supported"
    )
