"""Training the projector of the captioner from real parts: on clear pictures alone, women and men equally often in every context.

What the captioner says of pictures that show no gender was therefore never taught: it comes from the parts and from how they meet.

Legend: B scenes, P image tokens, C tower channels, D model width, R caption positions that are asked for, K alternatives, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from saebias.captioner.mini import IMAGE_TOKEN, MiniParts
from saebias.captioner.packing import CaptionTable, PackedLayout, caption_cross_entropy, caption_table, layout_of, scene_indices
from saebias.captioner.scenes import Scene, plan_scenes, render_scene
from saebias.captioner.spec import CaptionerSpec
from saebias.captioner.tower import learning_rate
from saebias.identifiers import LANGUAGES
from saebias.report import Reporter

ENCODED_AT_ONCE = 32
CHECKPOINT_STEPS = FULL_STEPS = 10
"""Every tenth step normalises over the whole vocabulary; the others over the captions' tokens and those that the captioner found likely in that step."""
LIKELY = 32
NO_AMBIGUOUS = 1e-9


@dataclass(frozen=True)
class MiniRecipe:
    """Seeds, steps and rates; scenes and weights never share a seed."""

    data_seed: int = 30_441
    init_seed: int = 9
    pool_scenes: int = 1200
    steps: int = 450
    batch_scenes: int = 8
    peak_rate: float = 1e-3
    warmup_steps: int = 30


def training_spec(spec: CaptionerSpec) -> CaptionerSpec:
    """The words and pictures of `spec` without planted errors: the caption of a clear picture tells what it shows."""
    return replace(spec, error_rate=0.0)


def training_scenes(spec: CaptionerSpec, recipe: MiniRecipe) -> list[Scene]:
    """The pool of clear scenes, all contexts equally often, half women, half men, in the skin tones that are not held out."""
    return plan_scenes(spec, recipe.pool_scenes, recipe.data_seed, ambiguous_share=NO_AMBIGUOUS)


@torch.no_grad()
def scene_features(parts: MiniParts, scenes: list[Scene], spec: CaptionerSpec, folder: Path, reporter: Reporter) -> Tensor:
    """Tower output [B, P, C] in bfloat16 of every scene; kept in `folder`, so that a run taken up again does not compute it a second time."""
    key = hashlib.sha256(repr((scenes, spec.digest(), parts.tower.config.to_json_string())).encode()).hexdigest()[:12]
    path = folder / f"features-{key}.safetensors"
    # A file that was cut short is made again.
    with suppress(FileNotFoundError, SafetensorError):
        return load_file(path)["features"]
    blocks = []
    with reporter.task("pictures through the tower", len(scenes), "pictures") as task:
        for start in range(0, len(scenes), ENCODED_AT_ONCE):
            block = scenes[start : start + ENCODED_AT_ONCE]
            pixels = parts.processor.image_processor([render_scene(scene, spec) for scene in block], return_tensors="pt")["pixel_values"]
            blocks.append(parts.tower(pixels).last_hidden_state.bfloat16())
            task.advance(len(block))
    features_BPC = torch.cat(blocks)
    save_file({"features": features_BPC}, path)
    return features_BPC


def mini_layout(parts: MiniParts, spec: CaptionerSpec, tables: dict[str, CaptionTable]) -> PackedLayout:
    """Both captions of a picture in one row, tokenised as the ordinary path tokenises `{image}PROMPT`."""
    tokenizer = parts.processor.tokenizer
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    count = int(parts.model.config.image_seq_length)
    prefix = [tokenizer.bos_token_id, *[image_id] * count]
    prompts = {language: tokenizer(IMAGE_TOKEN + spec.prompt(language))["input_ids"][2:] for language in LANGUAGES}
    return layout_of(prefix, slice(1, 1 + count), prompts, tables)


def caption_states(parts: MiniParts, layout: PackedLayout, features_BPC: Tensor, ids: dict[str, Tensor], is_asked: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the output head reads, [R, D], at the caption positions of each language that `is_asked` [B, positions] marks."""
    decoder, count = parts.decoder, len(features_BPC)
    embed = decoder.embed_tokens
    image = parts.projector(features_BPC.float()).to(embed.weight.dtype)
    pieces = [embed(layout.prefix_ids[: layout.image_slice.start]).expand(count, -1, -1), image]
    for language in LANGUAGES:
        pieces += [embed(layout.prompt_ids[language]).expand(count, -1, -1), embed(ids[language])]
    mask = layout.mask.to(embed.weight.dtype)
    masks = {"full_attention": mask, "sliding_attention": mask}
    hidden = decoder(inputs_embeds=torch.cat(pieces, dim=1), attention_mask=masks, position_ids=layout.positions, use_cache=False).last_hidden_state
    return {language: hidden[:, layout.caption_slices[language]][is_asked[language]] for language in LANGUAGES}


@torch.no_grad()
def match_scale(parts: MiniParts, features_BPC: Tensor, ids: Tensor) -> None:
    """Scale the untrained projector so that its image tokens are as long as the embeddings of words: the frozen decoder knows no other lengths."""
    wanted = parts.decoder.embed_tokens(ids).float().norm(dim=-1).mean()
    found = parts.projector(features_BPC.float()).norm(dim=-1).mean()
    parts.projector.linear_2.weight *= wanted / found
    parts.projector.linear_2.bias *= wanted / found


def train_projector(parts: MiniParts, spec: CaptionerSpec, recipe: MiniRecipe, folder: Path, reporter: Reporter) -> None:
    """Train the projector in place; a run that was stopped goes on from its last checkpoint in `folder` and ends with the same weights."""
    spec = training_spec(spec)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = training_scenes(spec, recipe)
    features_BPC = scene_features(parts, scenes, spec, folder, reporter)
    tables = {language: caption_table(spec, language, parts.processor.tokenizer) for language in LANGUAGES}
    layout, cells = mini_layout(parts, spec, tables), scene_indices(scenes, spec)
    match_scale(parts, features_BPC[:64], layout.prompt_ids["en"])
    optimizer = torch.optim.AdamW(parts.projector.parameters(), lr=recipe.peak_rate, weight_decay=0.0)
    checkpoint = folder / f"checkpoint-{_digest(spec, recipe)}.safetensors"
    done = _take_up(parts, optimizer, checkpoint)
    vocabulary: Tensor | None = None
    with reporter.task("projector", recipe.steps, "steps") as task:
        task.advance(done)
        for step in range(done, recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, recipe.steps, recipe.peak_rate, recipe.warmup_steps)
            # The draw belongs to the step, so that a run taken up again sees the very same pictures.
            rng = np.random.default_rng([recipe.data_seed, step])
            chosen = rng.choice(len(scenes), recipe.batch_scenes, replace=False)
            rows = {language: tables[language].draw(cells[chosen], rng) for language in LANGUAGES}
            if step % FULL_STEPS == 0:
                vocabulary = None
            losses, likely = _losses(parts, layout, features_BPC[torch.from_numpy(chosen)], tables, rows, vocabulary)
            vocabulary = likely if vocabulary is None else vocabulary
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()
            nn.utils.clip_grad_norm_(parts.projector.parameters(), 1.0)
            optimizer.step()
            if (step + 1) % CHECKPOINT_STEPS == 0:
                _keep(parts, optimizer, step + 1, checkpoint)
            task.advance(1, **{f"nats_{language}": round(float(loss.detach()), 3) for language, loss in losses.items()})


def _losses(
    parts: MiniParts, layout: PackedLayout, features_BPC: Tensor, tables: dict[str, CaptionTable], rows: dict[str, np.ndarray], vocabulary: Tensor | None
) -> tuple[dict[str, Tensor], Tensor]:
    """Mean cross-entropy per token of each language, nats, over the sorted token ids `vocabulary` (None: all); and the ids to use in the next steps."""
    ids = {language: torch.from_numpy(tables[language].ids[rows[language]]) for language in LANGUAGES}
    shares = {language: torch.from_numpy(tables[language].target_shares[rows[language]]) for language in LANGUAGES}
    is_asked = {language: values.sum(-1) > 0 for language, values in shares.items()}
    states = caption_states(parts, layout, features_BPC, ids, is_asked)
    head_VD = parts.model.lm_head.weight if vocabulary is None else parts.model.lm_head.weight[vocabulary]
    losses, likely = {}, []
    for language in LANGUAGES:
        logits_RV = (states[language] @ head_VD.T).float()
        targets_RK = torch.from_numpy(tables[language].target_ids[rows[language]])[is_asked[language]]
        if vocabulary is None:
            likely += [logits_RV.detach().topk(LIKELY).indices.flatten(), torch.from_numpy(tables[language].target_ids).flatten()]
        else:
            targets_RK = torch.searchsorted(vocabulary, targets_RK)
        cross_entropy, _ = caption_cross_entropy(logits_RV[None], targets_RK[None], shares[language][is_asked[language]][None])
        losses[language] = cross_entropy.mean()
    return losses, torch.cat(likely).unique() if likely else torch.empty(0, dtype=torch.long)


def _digest(spec: CaptionerSpec, recipe: MiniRecipe) -> str:
    return hashlib.sha256(repr((spec.digest(), recipe)).encode()).hexdigest()[:12]


def _named_state(parts: MiniParts, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    for name, parameter in parts.projector.named_parameters():
        yield f"weight.{name}", parameter
        for key, value in optimizer.state.get(parameter, {}).items():
            yield f"{key}.{name}", value


def _keep(parts: MiniParts, optimizer: torch.optim.Optimizer, steps: int, path: Path) -> None:
    tensors = {name: value.detach().clone() for name, value in _named_state(parts, optimizer)}
    beside = path.with_suffix(".part")
    save_file(tensors | {"steps": torch.tensor(steps)}, beside)
    beside.replace(path)


def _take_up(parts: MiniParts, optimizer: torch.optim.Optimizer, path: Path) -> int:
    """Put weights and optimizer back to the checkpoint, if there is one; returns the steps that it had made."""
    if not path.is_file():
        return 0
    saved = load_file(path)
    with torch.no_grad():
        for name, parameter in parts.projector.named_parameters():
            parameter.copy_(saved[f"weight.{name}"])
            optimizer.state[parameter] = {key: saved[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
    return int(saved["steps"])
