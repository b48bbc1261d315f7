"""What can be configured of `train`. A docstring under a field is its help text. No I/O here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from saebias.config.slices import Slice

Weight = Annotated[float, Field(ge=0)]


class MixConfig(Slice):
    """Relative shares of the rows that dictionaries learn from: a group (token kind, language) gets the product of its two weights, as far as it has rows."""

    image: Weight = 1.0
    """Weight of image tokens."""
    prompt: Weight = 1.0
    """Weight of prompt tokens."""
    caption: Weight = 1.0
    """Weight of caption tokens."""
    en: Weight = 1.0
    """Weight of English."""
    ar: Weight = 1.0
    """Weight of Arabic."""


class SweepConfig(Slice):
    """Dictionaries of other sizes beside the main ones, to compare: every k with every expansion, first seed."""

    k: list[Annotated[int, Field(ge=1)]] = Field([])
    """Numbers of active latents; empty takes `train.k`."""
    expansion: list[Annotated[int, Field(ge=1)]] = Field([])
    """Latents per model dimension; empty takes `train.expansion`."""
    layers: Literal["analysis", "all"] = "analysis"
    """Where: at the analysis layer, or at every layer kept."""


class ImportConfig(Slice):
    """A dictionary of another library (a SAELens, sparsify or dictionary_learning folder) in place of the trained one of a hook point."""

    hook: str
    """Hook point, such as L03.resid_post."""
    folder: Path
    """Folder with its config and weights."""


class TrainConfig(Slice):
    """Sparse autoencoders, one per hook point and seed."""

    architecture: Literal["topk", "batchtopk", "jumprelu", "gated", "relu", "matryoshka"] = "topk"
    """Kind of dictionary; `matryoshka` is BatchTopK with nested dictionaries."""
    expansion: int = Field(8, ge=1)
    """Latents per model dimension."""
    k: int = Field(32, ge=1)
    """Active latents per token."""
    epochs: float = Field(4.0, gt=0)
    """Passes over the rows of the sae split."""
    batch_size: int = Field(512, ge=2)
    """Rows per step. Fewer make more steps of the same rows: a little better, and each row costs a fifth to a half more time with every halving."""
    learning_rate: float | None = Field(None, gt=0)
    """Adam's step; without it chosen from the step budget and the number of latents."""
    aux_coefficient: float = Field(1.0, ge=0)
    """Weight of the loss that revives dead latents."""
    dead_after_rows: int = Field(8192, ge=1)
    """A latent that was silent for this many rows counts as dead while training."""
    max_rows: int = Field(60_000, ge=1)
    """Rows of the sae split used per dictionary, drawn over token kinds and languages as `train.mix` says."""
    mix: MixConfig = MixConfig()
    """Shares of token kinds and languages; all equal by default."""
    skip_positions: int = Field(0, ge=0)
    """Leading text and image positions of every sequence left out of training: 1 leaves out BOS, whose activations can be a hundred times longer."""
    buffer_rows: int = Field(65_536, ge=1)
    """Rows that are mixed with each other and held in memory, per hook point read."""
    seeds: list[int] = Field([101, 102, 103], min_length=1)
    """Initialisation seeds. The first makes the dictionaries that are analysed; the others, started from other rows, tell which of their latents are stable."""
    seed_layers: Literal["analysis", "all"] = "analysis"
    """Where the further seeds are trained: at the analysis layer, or at every layer kept."""
    analysis_layer: int | None = Field(None, ge=0)
    """Layer of the further seeds and of the control with a frozen random decoder; without it the one of those kept that is nearest two thirds of the way up."""
    sweep: SweepConfig = SweepConfig()
    """Further sizes."""
    imports: list[ImportConfig] = Field([])
    """Dictionaries that are not trained but read: each is analysed and steered as the one of its hook point."""
    validations: int = Field(4, ge=0)
    """Looks at validation images before the end; the best state is kept."""
    patience: int | None = Field(None, ge=1)
    """Stop a dictionary after so many looks without a better one; without it none stops early."""
    checkpoint_every: int = Field(1000, ge=1)
    """Steps between two checkpoints, which a broken-off training goes on from; changes no number."""
    track: Literal["none", "tensorboard", "wandb"] = "none"
    """Where training curves go besides the catalogue (extra `tracking`); wandb stays offline unless WANDB_MODE says otherwise."""
    gate_fvu: float = Field(0.5, gt=0)
    """Quality gate: analysis refuses a dictionary that leaves more variance unexplained than this."""
    gate_dead: float = Field(0.5, gt=0, le=1)
    """Quality gate: largest share of dead latents."""
    allow_failed_gate: bool = False
    """Analyse a dictionary although it fails the gate."""
