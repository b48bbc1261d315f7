"""Scenes: a person, a second object and a background, planned as values first and drawn afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from saebias.captioner.spec import CaptionerSpec, Context
from saebias.corpus.emoji import TONES, ambiguous_pictures, concept_by_key, picture
from saebias.errors import InputError

PARTS = ("seen", "held_out_tone", "untouched_drawings")
GENDERS = ("F", "M", "A")


@dataclass(frozen=True)
class Scene:
    """One picture to draw. Positions are the upper left corners, in pixels."""

    context: str
    gender: str
    """What the person's drawing shows: F, M, or A (ambiguous)."""
    tone: str
    style: str
    object: str
    background: str
    person_size: int
    person_x: int
    person_y: int
    object_size: int
    object_x: int
    object_y: int

    @property
    def cluster(self) -> str:
        """The person's drawing: scenes that share it are near-duplicates, and one unit in a bootstrap."""
        return f"{self.style}/{self.context}/{self.gender}/{self.tone}"


@cache
def drawings(context: Context, gender: str, part: str, held_out_tone: str) -> tuple[tuple[str, str], ...]:
    """(style, tone) of each drawing of a context and gender in `part`.

    "seen" is what is trained on; "held_out_tone" the same styles in the skin tone kept back; "untouched_drawings" the styles kept back for this context.
    For gender A, neutral drawings that are byte for byte the man's or the woman's are no ambiguous pictures and are left out.
    """
    if part not in PARTS:
        raise InputError(f"scene part {part!r} is unknown; parts are {', '.join(PARTS)}")
    tones = (held_out_tone,) if part == "held_out_tone" else tuple(tone for tone in TONES if tone != held_out_tone)
    styles = context.untouched if part == "untouched_drawings" else context.styles
    pairs = tuple((style, tone) for style in styles for tone in tones)
    return pairs if gender != "A" else tuple((style, tone) for style, tone in pairs if (context.name, tone) in _ambiguous(style))


def plan_scenes(spec: CaptionerSpec, n: int, seed: int, *, ambiguous_share: float = 0.5, part: str = "seen") -> list[Scene]:
    """`n` scenes, every context equally often, a share of them with an ambiguous person and the rest half women, half men; the same seed gives the same scenes.

    Contexts that have no drawing of some gender in `part` are left out of it.
    """
    rng = np.random.default_rng(seed)
    usable = [context for context in spec.contexts if all(drawings(context, gender, part, spec.held_out_tone) for gender in GENDERS)]
    if not usable:
        raise InputError(f"captioner spec {spec.name!r} has no drawings in part {part!r}; give a context drawings there")
    contexts = rng.permutation(np.arange(n) % len(usable))
    clear = (1 - ambiguous_share) / 2
    genders = rng.choice(len(GENDERS), size=n, p=[clear, clear, ambiguous_share])
    return [_plan_one(spec, usable[c], GENDERS[g], part, rng) for c, g in zip(contexts, genders, strict=True)]


def render_scene(scene: Scene, spec: CaptionerSpec) -> Image.Image:
    """The scene as an RGB picture of `spec.image_size` pixels a side; the person is drawn over the object."""
    canvas = Image.new("RGB", (spec.image_size, spec.image_size), dict(spec.backgrounds)[scene.background])
    thing = _picture(dict(spec.objects)[scene.object], scene.style, scene.object_size)
    canvas.paste(thing, (scene.object_x, scene.object_y), thing)
    concept = concept_by_key(scene.context)
    person = _picture(concept.sequence("N" if scene.gender == "A" else scene.gender, scene.tone), scene.style, scene.person_size)
    canvas.paste(person, (scene.person_x, scene.person_y), person)
    return canvas


def render_pixels(scenes: Sequence[Scene], spec: CaptionerSpec) -> np.ndarray:
    """The scenes as one uint8 array [scene, height, width, 3]."""
    return np.stack([np.asarray(render_scene(scene, spec)) for scene in scenes])


@cache
def _ambiguous(style: str) -> frozenset[tuple[str, str]]:
    return frozenset(ambiguous_pictures(style).kept)


@cache
def _picture(sequence: str, style: str, size: int) -> Image.Image:
    if style == "twemoji":
        return picture(sequence, style, size)
    # OpenMoji leaves an eighth of the side empty all round; without it people are as large as Twemoji's.
    drawn = size * 4 // 3
    margin = (drawn - size) // 2
    return picture(sequence, style, drawn).crop((margin, margin, margin + size, margin + size))


def _plan_one(spec: CaptionerSpec, context: Context, gender: str, part: str, rng: np.random.Generator) -> Scene:
    choices = drawings(context, gender, part, spec.held_out_tone)
    style, tone = choices[rng.integers(len(choices))]
    person_size, object_size = spec.person_sizes[rng.integers(len(spec.person_sizes))], spec.object_sizes[rng.integers(len(spec.object_sizes))]
    side = spec.image_size
    # Person at one side, object at the other: they may touch at the edges of their boxes, never hide each other.
    person_x, object_x = int(rng.integers(0, 7)), side - object_size - int(rng.integers(0, 4))
    if rng.integers(2):
        person_x, object_x = side - person_size - person_x, side - object_size - object_x
    return Scene(
        context=context.name,
        gender=gender,
        tone=tone,
        style=style,
        object=spec.objects[rng.integers(len(spec.objects))][0],
        background=spec.backgrounds[rng.integers(len(spec.backgrounds))][0],
        person_size=person_size,
        person_x=person_x,
        person_y=int(rng.integers(side // 5, side - person_size + 1)),
        object_size=object_size,
        object_x=object_x,
        object_y=int(rng.integers(0, side - object_size + 1)),
    )
