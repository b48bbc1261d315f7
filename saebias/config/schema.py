"""What can be configured, as frozen pydantic slices. A docstring under a field is its help text. No I/O here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from saebias.config.extract_schema import ExtractConfig
from saebias.config.slices import Slice
from saebias.config.train_schema import TrainConfig

Language = Literal["en", "ar"]
Share = Annotated[float, Field(gt=0, lt=1)]


class ColumnsConfig(Slice):
    """Names of the columns in the user's table."""

    image: str = "image"
    """Path of the picture, relative to `data.image_root` or to the table."""
    caption_en: str | None = "caption_en"
    """English caption, or a JSON list of captions."""
    caption_ar: str | None = "caption_ar"
    """Arabic caption, or a JSON list of captions."""
    sample_id: str | None = None
    """Identifier of the row; without it the row number serves."""
    context: str | None = None
    """Profession or activity shown."""
    visual_gender: str | None = None
    """What the picture shows: F, M or A (does not say)."""
    cluster: str | None = None
    """Group of near-duplicate pictures; without it pictures with the same content are one group."""
    concept: str | None = None
    """Pictures of one concept are near-duplicates: a concept is never in both select and report."""


class SplitConfig(Slice):
    """Shares of the three-way split by image."""

    sae: Share = 0.4
    """Share of picture groups that train dictionaries."""
    select: Share = 0.3
    """Share that chooses latents, layers and strengths."""
    report: Share = 0.3
    """Share on which every number that follows a choice is reported."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitConfig:
        total = self.sae + self.select + self.report
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares sae + select + report add up to {total:g}; they must add up to 1")
        return self


class DataConfig(Slice):
    """Where pictures and captions come from."""

    source: Literal["emoji", "table"] = "emoji"
    """`emoji`: composed scenes with known truth; `table`: your own file."""
    captioner: str = "skewed"
    """For `emoji`: the captioner spec whose planted shares and templates the scenes follow (skewed, null, or a YAML file)."""
    n: int = Field(2000, ge=1)
    """Number of images; a larger table is sampled down, stratified by gender shown and context."""
    seed: int = 11
    """Seed of scenes and sampling; never the seed of a model."""
    ambiguous_share: Share = 0.6
    """For `emoji`: share of scenes whose person shows no gender."""
    table: Path | None = None
    """For `table`: a CSV, TSV, JSON-lines or Parquet file."""
    image_root: Path | None = None
    """Folder that image paths are relative to; the table's own folder otherwise."""
    columns: ColumnsConfig = ColumnsConfig()
    """Column names of the table."""
    full_decode: bool = True
    """For `table`: decode every picture wholly, so that a broken one is set aside here and not met in the middle of a run; false checks headers alone."""
    near_duplicates: bool = True
    """For `table`: group pictures that look alike, so that they stay in one split."""
    continuations: Path | None = None
    """CSV with columns context, language, gender, text: caption beginnings that disclose gender (context * serves all)."""
    reference_shares: Path | None = None
    """CSV with columns context, language, source, p_female: labour statistics or the like."""
    split: SplitConfig = SplitConfig()
    """The three-way split."""

    @model_validator(mode="after")
    def _table_is_named(self) -> DataConfig:
        if self.source == "table" and self.table is None:
            raise ValueError("data.source is 'table' but data.table names no file; set data.table=FILE")
        return self


class ModelConfig(Slice):
    """The captioner under study."""

    name: str = "saebias:skewed"
    """`saebias:skewed` or `saebias:null` (shipped), `saebias:mini-gemma3` (built once), `saebias:gemma3-270m` or `saebias:smollm2` (text only,
    from installed packages), a folder, or a hub id such as google/gemma-3-4b-it."""
    revision: str | None = None
    """Commit of a hub model: pin it."""
    accept_license: str | None = None
    """`gemma`: you accept Google's Gemma Terms of Use, which hold for the weights of saebias:gemma3-270m and saebias:mini-gemma3."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and activations inside the model. It is part of the result, so it never depends on the machine; bfloat16 is about four times
    as fast where processor (avx512_bf16) or GPU computes it, and slow elsewhere."""
    device_map: Literal["auto", "balanced", "sequential"] | None = None
    """For a model larger than one GPU: spread it over all there are, and main memory; without it the model lies on runtime.device."""
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Weights in 8 or 4 bits by bitsandbytes (extra `quant`, CUDA only). It changes the model, and so every number."""
    attention: Literal["sdpa", "flash_attention_2", "eager"] | None = None
    """Attention kernel; without it transformers chooses (sdpa where the model has it)."""
    offline: bool = True
    """Never download; a missing model is an error that names the command to fetch it."""
    prompt_en: str | None = None
    """English prompt with the image slot; without it the model's own (shipped captioners) or the default instruction. Text-only models: no slot."""
    prompt_ar: str | None = None
    """Arabic prompt with the image slot."""
    chat_template: bool = False
    """Wrap the prompt with the model's chat template."""
    max_new_tokens: int = Field(24, ge=1)
    """Longest generated caption, tokens."""


class AnalyzeConfig(Slice):
    """Behaviour and features."""

    draws: int = Field(4, ge=1)
    """Captions sampled at temperature 1 per image and language."""
    min_coverage: float = Field(0.01, ge=0, le=1)
    """Mean probability of the closed set below which a language's stereotype and default are left out; 0 reports them all the same."""
    bootstrap: int = Field(2000, ge=200)
    """Bootstrap draws over picture groups."""
    permutations: int = Field(9999, ge=99)
    """Label permutations over picture groups, for each latent's p."""
    top: int = Field(16, ge=1)
    """Latents per set handed to steer."""


class SteerConfig(Slice):
    """Interventions."""

    layer: int | None = Field(None, ge=0)
    """Layer to steer; without it chosen on the select split, for each language."""
    positions: Literal["decision", "after_image"] = "decision"
    """Where an edit acts: on the position whose next token decides the gender, or on all text behind the picture."""
    random_sets: int = Field(199, ge=19)
    """Matched random latent sets (arm A6): the smallest p is 1 / (this + 1)."""
    strengths: list[float] = Field([0.25, 0.5, 0.75, 1.0], min_length=1)
    """Doses; 1 replaces a latent wholly by its mean, or removes a direction wholly."""
    verified: int = Field(64, ge=10)
    """Latents per target whose exact single effect is computed beside their scores: half the best ones, half drawn from the rest."""
    images: int = Field(120, ge=20)
    """Largest number of ambiguous images per evaluation (half as many clear ones)."""
    caption_images: int = Field(120, ge=1)
    """Images whose greedy captions are written under each arm."""
    max_accuracy_loss: Share = 0.02
    """Budget: accuracy on clear images that may be lost."""
    max_cross_entropy_rise: float = Field(0.05, ge=0)
    """Budget: rise of the captions' cross-entropy off the gender words, nats per token."""
    max_default_shift: float = Field(0.05, ge=0)
    """Budget: how much further from 1/2 the mean P(woman) may move; saying one gender to everybody removes the spread too."""


class MechanisticConfig(Slice):
    """The tools that look inside the model."""

    folds: int = Field(5, ge=2)
    """Folds of the probes, grouped by picture group."""
    permutations: int = Field(200, ge=19)
    """Permutations for floors."""
    bootstrap: int = Field(2000, ge=200)
    """Bootstrap draws over picture groups."""
    images: int = Field(32, ge=4)
    """Pictures of each visual gender for logit attribution, and scene pairs for patching: both run the model anew."""
    tuned_lens: bool = False
    """Also read through a tuned lens, trained on the sae and select splits (half a minute more)."""
    pairs: Path | None = None
    """CSV with columns woman, man (sample ids): pictures of one scene that differ in the person's gender alone. The demonstration composes its own."""
    latent_permutations: int = Field(9999, ge=99)
    """Label permutations for the p of every latent of a dictionary."""
    pair_latents: int = Field(8, ge=2, le=32)
    """Latents of each chosen set whose pairs are looked at."""
    causal_images: int = Field(40, ge=10)
    """Images (half ambiguous, half clear) on which pairs of latents are ablated."""


class PlotConfig(Slice):
    """Figures and report."""

    top_latents: int = Field(20, ge=1)
    """Latents in the heat map."""
    sample_images: int = Field(12, ge=0)
    """Scenes shown in the report."""
    dpi: int = Field(150, ge=50)
    """Resolution of PNG files."""


class LabelsConfig(Slice):
    """How gender is read off captions."""

    extra_lexicon: Path | None = None
    """TSV with columns language, word, gender, number, kind, source, note: words of yours that add to and override the built-in ones."""


class CaptionColumnsConfig(Slice):
    """Names of the columns of a captions file."""

    caption: str = "caption"
    """The caption."""
    language: str | None = None
    """Its language, en or ar; without it `score.language` holds for all."""
    image_id: str | None = None
    """The picture it is of: the unit of intervals and of a comparison; without it every caption stands alone."""
    context: str | None = None
    """Profession or activity: shares are given for each."""
    reference: str | None = None
    """A reference caption of the same picture, or its label (F, M, N, X, 0)."""


class ScoreConfig(Slice):
    """What `saebias score` reads; its arguments say it on the command line."""

    file: Path | None = None
    """Captions of any model: CSV, TSV, JSON lines, Parquet, or plain lines (.txt)."""
    compare: Path | None = None
    """The captions after a change, of the same pictures."""
    language: Language | None = None
    """Language of all captions."""
    columns: CaptionColumnsConfig = CaptionColumnsConfig()
    """Column names, of both files."""
    benchmark: Path | None = None
    """Folder of public data with known gender, to measure the labels on."""


class RuntimeConfig(Slice):
    """How it runs; nothing in here changes a number."""

    artifacts: Path = Path("artifacts")
    """Folder for everything that is made."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    threads: int | None = Field(None, ge=1)
    """Threads of torch; without it the cores that the process may use, or OMP_NUM_THREADS of them."""
    batch_size: int = Field(64, ge=1)
    """Images per forward pass."""
    workers: int = Field(1, ge=1)
    """Processes that share the units of a stage that can be shared (extract, train), each with a model of its own."""
    engine: Literal["local", "ray"] = "local"
    """Who starts the workers: this program on this machine, or Ray on the cluster that it reaches (extra `ray`)."""
    token_budget: int | None = Field(None, ge=16)
    """`extract`: tokens of one forward pass; without it chosen from the free memory. Halved by itself where memory runs out."""

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is None:
            raise ValueError("choose auto, cpu, cuda or cuda:N")
        return value


RENAMED = {"extract.image_tokens": "extract.tokens.image"}
"""Keys that configurations of earlier versions may hold, and what they are called now."""


class Config(Slice):
    """The whole configuration."""

    seed: int = 1
    """Base seed; every unit of work derives its own from (seed, stage, unit)."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    extract: ExtractConfig = ExtractConfig()
    train: TrainConfig = TrainConfig()
    analyze: AnalyzeConfig = AnalyzeConfig()
    steer: SteerConfig = SteerConfig()
    mechanistic: MechanisticConfig = MechanisticConfig()
    plot: PlotConfig = PlotConfig()
    labels: LabelsConfig = LabelsConfig()
    score: ScoreConfig = ScoreConfig()
    runtime: RuntimeConfig = RuntimeConfig()
