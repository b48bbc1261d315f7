"""What a sample is: the frozen, flat rows that the rest of the program passes around and the store keeps."""

from __future__ import annotations

from dataclasses import dataclass

VISUAL_GENDERS = ("F", "M", "A")
SPLITS = ("sae", "select", "report")


@dataclass(frozen=True)
class ImageRecord:
    """One picture, known by its bytes: the same file under two names is one image."""

    image_id: str
    """The first 16 hex digits of `content_hash`."""
    path: str
    content_hash: str
    """SHA-256 of the file's bytes, in hex."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    format: str
    """PNG, JPEG, WEBP, GIF, BMP, or Pillow's name for it."""
    n_bytes: int
    cluster_id: str
    """Near-duplicate pictures share it; it is the unit that splits and bootstraps keep whole."""


@dataclass(frozen=True)
class CaptionRecord:
    """One human caption of a sample's image in one language."""

    caption_id: str
    """`<sample_id>-<language>-<caption_index>`."""
    image_id: str
    language: str
    """One of LANGUAGES."""
    caption_index: int
    """Counts from 0 within sample and language."""
    text: str


@dataclass(frozen=True)
class SampleRecord:
    """One image with its captions, as one row of work for every later stage."""

    sample_id: str
    image_id: str
    cluster_id: str
    context: str | None
    """The profession or activity shown, such as `cook`."""
    visual_gender: str | None
    """What the picture shows: F, M, A (ambiguous), or None when nobody said."""
    split: str | None = None
    """One of SPLITS; None until splits are assigned."""
    concept: str | None = None
    """Pictures of one concept are near-duplicates in content: select and report never share one."""
    style: str | None = None
    skin_tone: str | None = None
    object: str | None = None
    held_out: bool = False
    """True for pictures that the captioner never saw in training."""
    caption_en: str | None = None
    """The first English caption."""
    caption_ar: str | None = None
    """The first Arabic caption."""


@dataclass(frozen=True)
class SampleProblem:
    """A row that was set aside, and why. It is kept and counted, never dropped in silence."""

    source: str
    """The file the row stands in."""
    row_number: int
    """From 1: the row after the header in CSV and TSV, the line in JSON lines, the row in Parquet."""
    sample_id: str | None
    column: str | None
    value: str | None
    """What stood there, shortened to 200 characters."""
    reason: str


@dataclass(frozen=True)
class Continuation:
    """A caption beginning that discloses a gender: the closed set whose exact probabilities are compared."""

    context: str
    language: str
    gender: str
    """F, M or N."""
    text: str


@dataclass(frozen=True)
class ReferenceShare:
    """The share of women in a context according to something outside the model (captions, labour statistics)."""

    context: str
    language: str
    source: str
    p_female: float


def image_id_of(content_hash: str) -> str:
    """The image id of a SHA-256 in hex: its first 16 digits."""
    return content_hash[:16]
