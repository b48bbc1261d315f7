"""First training stage: the picture tower learns to tell context, gender and object apart, through small heads that are thrown away afterwards.

Legend: B pictures, T image tokens (after pooling), D tower width, K classes of one head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration

from saebias.captioner.scenes import GENDERS, Scene, plan_scenes, render_pixels
from saebias.captioner.spec import CaptionerSpec
from saebias.report import Reporter

HEADS = ("context", "gender", "object")


class TowerHeads(nn.Module):
    """One attention-pooled linear classifier per target on the pooled image tokens."""

    def __init__(self, width: int, classes: dict[str, int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries = nn.ParameterDict({name: nn.Parameter(torch.randn(width) * width**-0.5) for name in classes})
        self.outputs = nn.ModuleDict({name: nn.Linear(width, count) for name, count in classes.items()})

    def forward(self, tokens_BTD: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits [B, K] of each target."""
        normed_BTD = self.norm(tokens_BTD)
        pooled = {name: (torch.softmax(normed_BTD @ query_D, dim=1)[..., None] * normed_BTD).sum(1) for name, query_D in self.queries.items()}
        return {name: self.outputs[name](pooled_BD) for name, pooled_BD in pooled.items()}


def pixel_values(pixels: np.ndarray) -> torch.Tensor:
    """Model input [B, 3, H, W] in -1..1 of uint8 pictures [B, H, W, 3]; the same values that the processor gives."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def pooled_features(model: Gemma3ForConditionalGeneration, pixel_values_B: torch.Tensor) -> torch.Tensor:
    """Tower output averaged over the patches of each image token, [B, T, D]: what the projector normalises and projects."""
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    patches_BPD = tower(pixel_values=pixel_values_B).last_hidden_state
    side = projector.patches_per_image
    grid = patches_BPD.transpose(1, 2).reshape(len(patches_BPD), -1, side, side)
    return projector.avg_pool(grid).flatten(2).transpose(1, 2)


def tower_targets(scenes: Sequence[Scene], spec: CaptionerSpec) -> dict[str, torch.Tensor]:
    """Class index of every scene for each head."""
    contexts, objects = [context.name for context in spec.contexts], [name for name, _ in spec.objects]
    return {
        "context": torch.tensor([contexts.index(scene.context) for scene in scenes]),
        "gender": torch.tensor([GENDERS.index(scene.gender) for scene in scenes]),
        "object": torch.tensor([objects.index(scene.object) for scene in scenes]),
    }


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up to `peak`, then a cosine down to a hundredth of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def train_tower(model: Gemma3ForConditionalGeneration, spec: CaptionerSpec, reporter: Reporter) -> TowerHeads:
    """Train the tower in place on freshly drawn scenes; returns the heads, for checks."""
    training, steps = spec.training, spec.training.tower_steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.init_seed + 1)
        heads = TowerHeads(spec.model.vision_hidden_size, {"context": len(spec.contexts), "gender": len(GENDERS), "object": len(spec.objects)})
    parameters = [*model.model.vision_tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=training.tower_learning_rate, weight_decay=0.02, betas=(0.9, 0.98), fused=True)
    scenes = plan_scenes(spec, steps * training.batch_scenes, training.data_seed)
    with reporter.task("tower", steps, "steps") as task:
        for step in range(steps):
            batch = scenes[step * training.batch_scenes : (step + 1) * training.batch_scenes]
            targets = tower_targets(batch, spec)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, training.tower_learning_rate, training.warmup_steps)
            with torch.autocast("cpu", torch.bfloat16):
                tokens_BTD = pooled_features(model, pixel_values(render_pixels(batch, spec)))
            logits = heads(tokens_BTD.float())
            losses = {name: nn.functional.cross_entropy(logits[name], targets[name]) for name in HEADS}
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            task.advance(1, **{name: round(float(loss.detach()), 3) for name, loss in losses.items()})
    return heads


@torch.inference_mode()
def tower_accuracy(model: Gemma3ForConditionalGeneration, heads: TowerHeads, scenes: Sequence[Scene], spec: CaptionerSpec) -> dict[str, float]:
    """Share of scenes that each head names rightly."""
    logits = heads(torch.cat([pooled_features(model, pixel_values(render_pixels(scenes[i : i + 128], spec))) for i in range(0, len(scenes), 128)]))
    return {name: float((logits[name].argmax(1) == target).float().mean()) for name, target in tower_targets(scenes, spec).items()}
