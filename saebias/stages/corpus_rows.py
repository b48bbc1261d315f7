"""What both sources of a corpus hand to `prepare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saebias.corpus.records import CaptionRecord, Continuation, ImageRecord, ReferenceShare, SampleProblem, SampleRecord


@dataclass(frozen=True)
class Corpus:
    """Samples without splits, their images and captions, the closed set that discloses gender, and what was set aside."""

    samples: Sequence[SampleRecord]
    images: Sequence[ImageRecord]
    captions: Sequence[CaptionRecord]
    sample_of_caption: dict[str, str]
    image_paths: dict[str, str]
    """Path to open, per image id."""
    continuations: Sequence[Continuation]
    reference_shares: Sequence[ReferenceShare]
    problems: Sequence[SampleProblem] = field(default_factory=list)
