"""Second training stage: projector and text decoder learn the captions on the features of the frozen tower."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

from saebias.captioner.packing import caption_cross_entropy, caption_table, packed_layout, packed_logits, scene_indices
from saebias.captioner.scenes import Scene, plan_scenes, render_pixels
from saebias.captioner.spec import CaptionerSpec
from saebias.captioner.tower import learning_rate, pixel_values, pooled_features
from saebias.identifiers import LANGUAGES
from saebias.report import Reporter

# The pool of scenes must not repeat those of the tower stage; both derive from the data seed.
POOL_SEED_OFFSET = 1_000
# A position where the plant leaves a choice counts more: its target is exact, so the optimum stays where it is and is reached sooner.
CHOICE_WEIGHT = 4.0


@torch.inference_mode()
def feature_pool(model: Gemma3ForConditionalGeneration, scenes: Sequence[Scene], spec: CaptionerSpec, reporter: Reporter) -> torch.Tensor:
    """Pooled tower features [scene, image token, width] of `scenes`."""
    chunks = []
    with reporter.task("features", len(scenes), "scenes") as task:
        for start in range(0, len(scenes), 128):
            chunks.append(pooled_features(model, pixel_values(render_pixels(scenes[start : start + 128], spec))))
            task.advance(len(chunks[-1]))
    return torch.cat(chunks)


def train_decoder(
    model: Gemma3ForConditionalGeneration,
    spec: CaptionerSpec,
    tokenizer: PreTrainedTokenizerFast,
    reporter: Reporter,
    on_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Train projector and decoder in place; captions of a scene are drawn anew whenever it comes up; `on_step` is called after every step."""
    training = spec.training
    tables = {language: caption_table(spec, language, tokenizer) for language in LANGUAGES}
    layout = packed_layout(spec, tokenizer, tables)
    scenes = plan_scenes(spec, training.pool_scenes, training.data_seed + POOL_SEED_OFFSET, ambiguous_share=training.ambiguous_share)
    indices, features = scene_indices(scenes, spec), feature_pool(model, scenes, spec, reporter).clone()
    parameters = [*model.model.multi_modal_projector.parameters(), *model.model.language_model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=training.decoder_learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    rng = np.random.default_rng(training.data_seed + POOL_SEED_OFFSET + 1)
    with reporter.task(f"decoder {spec.name}", training.decoder_steps, "steps") as task:
        for step in range(training.decoder_steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, training.decoder_steps, training.decoder_learning_rate, training.warmup_steps)
            chosen = rng.choice(len(scenes), training.batch_scenes, replace=False)
            rows = {language: tables[language].draw(indices[chosen], rng) for language in LANGUAGES}
            ids = {language: torch.from_numpy(tables[language].ids[rows[language]]) for language in LANGUAGES}
            with torch.autocast("cpu", torch.bfloat16):
                logits = packed_logits(model, layout, features[torch.from_numpy(chosen)], ids)
            excess, loss = {}, torch.zeros(())
            for language in LANGUAGES:
                shares = torch.from_numpy(tables[language].target_shares[rows[language]])
                cross_entropy, floor = caption_cross_entropy(logits[language], torch.from_numpy(tables[language].target_ids[rows[language]]), shares)
                weights = 1 + (CHOICE_WEIGHT - 1) * (floor > 0)
                tokens = (shares.sum(-1) > 0).sum()
                loss = loss + (weights * cross_entropy).sum() / tokens
                excess[language] = round(float((cross_entropy - floor).sum().detach() / tokens), 4)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            on_step(step + 1)
            task.advance(1, **{f"excess_{language}": value for language, value in excess.items()})
