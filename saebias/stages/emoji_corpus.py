"""The demonstration corpus: composed scenes of people emoji with captions drawn from a captioner's planted shares."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saebias.pipeline.stage import StageContext
from saebias.stages.corpus_rows import Corpus

if TYPE_CHECKING:
    from saebias.captioner.scenes import Scene
    from saebias.captioner.spec import CaptionerSpec
    from saebias.corpus.records import ReferenceShare, SampleRecord
    from saebias.store.parts import UnitWriter

UNIT_SCENES = 250
HELD_OUT_SHARE = 0.1
"""Share of scenes in the skin tone that the captioner never saw."""


def emoji_corpus(ctx: StageContext) -> Corpus:
    """Draw the scenes (resumable every 250), and gather them as a corpus; scenes with the same bytes are one image."""
    from saebias.captioner.spec import load_spec

    spec = load_spec(ctx.cfg.data.captioner)
    scenes = plan_corpus(spec, ctx.cfg.data.n, ctx.cfg.data.seed, ctx.cfg.data.ambiguous_share)
    blocks = {f"scenes-{start // UNIT_SCENES:04d}": range(start, min(start + UNIT_SCENES, len(scenes))) for start in range(0, len(scenes), UNIT_SCENES)}
    waiting = ctx.pending(list(blocks))
    with ctx.reporter.task("drawing scenes", sum(len(blocks[name]) for name in waiting), "scenes") as task:
        for name in waiting:
            with ctx.unit(name) as out:
                _draw_block(spec, scenes, blocks[name], out)
            task.advance(len(blocks[name]))
    return _gather(ctx, spec, scenes)


def plan_corpus(spec: CaptionerSpec, n: int, seed: int, ambiguous_share: float) -> list[Scene]:
    """The scenes of the corpus: a tenth in the skin tone that the captioner never saw, the rest in those it knows."""
    from saebias.captioner.scenes import plan_scenes

    n_held_out = round(n * HELD_OUT_SHARE)
    seen = plan_scenes(spec, n - n_held_out, seed, ambiguous_share=ambiguous_share)
    if n_held_out == 0:
        return seen
    return seen + plan_scenes(spec, n_held_out, seed + 1, ambiguous_share=ambiguous_share, part="held_out_tone")


def _picture_path(folder: Path, index: int) -> Path:
    # Absolute, so that a later stage may be started from another working directory.
    return folder.absolute() / "images" / f"scene-{index:06d}.png"


def _draw_block(spec: CaptionerSpec, scenes: list[Scene], block: range, out: UnitWriter) -> None:
    from saebias.captioner.scenes import render_scene

    paths = []
    for index in block:
        path = _picture_path(out.folder, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        render_scene(scenes[index], spec).save(path, format="PNG", compress_level=1)
        paths.append(path)
    out.keep(paths)


def _gather(ctx: StageContext, spec: CaptionerSpec, scenes: list[Scene]) -> Corpus:
    from saebias.captioner.captions import continuations, scene_captions
    from saebias.corpus.records import CaptionRecord, Continuation, ImageRecord, image_id_of

    folder = ctx.folder / "files"
    samples: list[SampleRecord] = []
    images: dict[str, ImageRecord] = {}
    captions: list[CaptionRecord] = []
    sample_of_caption: dict[str, str] = {}
    for index, scene in enumerate(scenes):
        path = _picture_path(folder, index)
        content = path.read_bytes()
        content_hash = hashlib.sha256(content).hexdigest()
        image_id = image_id_of(content_hash)
        if image_id in images:
            # The same scene planned twice: one image, one sample.
            continue
        images[image_id] = ImageRecord(image_id, str(path), content_hash, spec.image_size, spec.image_size, "PNG", len(content), scene.cluster)
        sample_id = f"scene-{index:06d}"
        texts = scene_captions(scene, spec, np.random.default_rng([ctx.cfg.data.seed, index]))
        for language, text in texts.items():
            caption_id = f"{sample_id}-{language}"
            captions.append(CaptionRecord(caption_id, image_id, language, 0, text))
            sample_of_caption[caption_id] = sample_id
        samples.append(_sample(sample_id, image_id, scene, spec, texts))
    closed_set = [Continuation(**asdict(row)) for row in continuations(spec)]
    paths = {image_id: image.path for image_id, image in images.items()}
    return Corpus(samples, list(images.values()), captions, sample_of_caption, paths, closed_set, planted_shares(spec))


def _sample(sample_id: str, image_id: str, scene: Scene, spec: CaptionerSpec, texts: dict[str, str]) -> SampleRecord:
    from saebias.corpus.records import SampleRecord

    return SampleRecord(
        sample_id=sample_id,
        image_id=image_id,
        cluster_id=scene.cluster,
        context=scene.context,
        visual_gender=scene.gender,
        concept=scene.context,
        style=scene.style,
        skin_tone=scene.tone,
        object=scene.object,
        held_out=scene.tone == spec.held_out_tone,
        caption_en=texts["en"],
        caption_ar=texts["ar"],
    )


def planted_shares(spec: CaptionerSpec) -> list[ReferenceShare]:
    """The planted P(F | F or M, ambiguous) per context and language, as reference shares."""
    from saebias.corpus.records import ReferenceShare

    return [ReferenceShare(context.name, language, "planted", context.p(language)) for context in spec.contexts for language in ("en", "ar")]
