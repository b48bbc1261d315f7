"""What can be configured of `train`. A docstring under a field is its help text. No I/O here."""

from __future__ import annotations

from pydantic import Field

from saebias.config.slices import Slice


class TrainConfig(Slice):
    """Sparse autoencoders, one per hook point and seed."""

    expansion: int = Field(8, ge=1)
    """Latents per model dimension."""
    k: int = Field(32, ge=1)
    """Active latents per token."""
    epochs: float = Field(4.0, gt=0)
    """Passes over the rows of the sae split."""
    batch_size: int = Field(512, ge=2)
    """Rows per step."""
    learning_rate: float | None = Field(None, gt=0)
    """Adam's step; without it chosen from the step budget and the number of latents."""
    aux_coefficient: float = Field(1.0, ge=0)
    """Weight of the loss that revives dead latents."""
    dead_after_rows: int = Field(8192, ge=1)
    """A latent that was silent for this many rows counts as dead while training."""
    max_rows: int = Field(60_000, ge=1)
    """Rows of the sae split used per dictionary, drawn evenly over token kinds and languages."""
    seeds: list[int] = Field([101], min_length=1)
    """Initialisation seeds; one dictionary each."""
    gate_fvu: float = Field(0.5, gt=0)
    """Quality gate: analysis refuses a dictionary that leaves more variance unexplained than this."""
    gate_dead: float = Field(0.5, gt=0, le=1)
    """Quality gate: largest share of dead latents."""
    allow_failed_gate: bool = False
    """Analyse a dictionary although it fails the gate."""
