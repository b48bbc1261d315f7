"""What the report is made of: rows, figures and pictures, gathered by the caller."""

from __future__ import annotations

from dataclasses import dataclass, field

from saebias.plots.tables import Row

Rows = tuple[Row, ...]


@dataclass(frozen=True)
class ReportFigure:
    """A drawn figure: SVG text, the CSV text it was drawn from, and where its rows can be asked for."""

    name: str
    title: str
    section: str
    caption: str
    view: str
    svg: str
    csv: str


@dataclass(frozen=True)
class InteractiveFigure:
    """A plotly figure as JSON text."""

    name: str
    title: str
    section: str
    caption: str
    json: str


@dataclass(frozen=True)
class SceneCaption:
    """One caption of a scene; role: "reference", "greedy" (the model's), "steered" (after an intervention, named in `by`)."""

    language: str
    role: str
    text: str
    by: str | None = None
    p_female: float | None = None


@dataclass(frozen=True)
class Scene:
    """A sample picture (PNG or JPEG bytes) with its captions."""

    sample_id: str
    profession: str | None
    image_shows: str | None
    image: bytes
    captions: tuple[SceneCaption, ...]


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows; rows are those of the named views (see `sql/views`), as dictionaries."""

    title: str
    model: str
    languages: tuple[str, ...]
    fingerprint: str
    created_at: str
    versions: dict[str, str]
    emoji_corpus: bool
    summary: Rows
    """View bias_summary."""
    professions: Rows
    """View profession_pairs."""
    amplification: Rows
    """View amplification."""
    layers: Rows
    """View layer_emergence."""
    steering: Rows
    """View steering_frontier."""
    quality: Rows
    """View sae_quality_by_layer."""
    timings: Rows
    """View stage_timing."""
    left_out: Rows
    """Named query left_out: stage, reason, n, first_place, example."""
    stale: Rows
    """View stale_runs."""
    harm_budget: float
    """Largest harm on clear images (share) an intervention may do to be recommended."""
    cross_entropy_budget: float | None = None
    """Largest rise of caption cross-entropy (nats) it may cause; None where that was not measured."""
    default_budget: float | None = None
    """How much further from 1/2 the mean P(woman) may move."""
    baselines: Rows = ()
    """View probe_accuracy, rows of baselines (pixels, bag of words)."""
    patching: Rows = ()
    """View patching_effects, the decoder's residual stream."""
    alarms: tuple[str, ...] = ()
    figures: tuple[ReportFigure, ...] = ()
    interactive: tuple[InteractiveFigure, ...] = ()
    scenes: tuple[Scene, ...] = ()
    unasked: str | None = None
    """Why this model cannot be asked about pictures; None where it can."""
    reads_caption: bool = False
    """Whether the deciding position has read the caption: what probes and lens find there was told in words, and says nothing of pictures."""
    notes: tuple[str, ...] = field(default=())
    """Further sentences for the method section, such as what a stage did less of than it could."""
