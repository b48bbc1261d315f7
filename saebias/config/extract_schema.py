"""Which activations are kept: the part of the configuration that `extract` reads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, model_validator

from saebias.config.slices import Slice


class TokensConfig(Slice):
    """Which tokens' activations are kept, by kind."""

    image: Literal["all", "none"] | Annotated[int, Field(ge=1, strict=True)] = "all"
    """`all`, `none`, or n image tokens drawn per sample, the same for both languages."""
    prompt: bool = True
    """The prompt's text, marks around the picture included."""
    caption: bool = True
    """The caption's tokens. Where they are not kept and the caption is not in the prompt, the model is not shown it at all."""
    decision: bool = True
    """The position whose next token decides the gender said."""
    last: bool = True
    """The last position of the prompt."""

    @model_validator(mode="after")
    def _something_is_kept(self) -> TokensConfig:
        if self.image == "none" and not (self.prompt or self.caption or self.decision or self.last):
            raise ValueError("no kind of token is kept; set one of image, prompt, caption, decision and last")
        return self


class ExtractConfig(Slice):
    """Which activations are kept."""

    layers: Literal["all"] | StrictInt | Annotated[list[StrictInt], Field(min_length=1)] = "all"
    """`all`, n evenly spaced layers, or a list of layer numbers counted from 0."""
    sites: list[Literal["resid_post", "attn_out", "mlp_out"]] = Field(["resid_post"], min_length=1)
    """Where in the layer: the residual stream behind it, and what its attention and its MLP add to that (behind the post-norms of Gemma 2 and 3)."""
    tokens: TokensConfig = TokensConfig()
    """Which tokens."""
    prompt_en: str | None = None
    """English prompt of this stage alone; without it the model's. With `caption_in_prompt` it says by `{caption}` where the caption goes."""
    prompt_ar: str | None = None
    """Arabic prompt of this stage alone."""
    caption_in_prompt: bool = False
    """The caption stands inside the prompt and not behind it: what follows then reads its words, and analyses say so."""
    pooled: bool = False
    """Means over each sample's image, prompt and caption tokens as well, in files of their own; dictionaries are never trained on them."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format on disk."""
    shard_rows: int = Field(16384, ge=256, multiple_of=256)
    """Rows of one shard: the unit of resuming."""
