"""How stages come to the model: by name, with its prompts, its closed sets and the pictures of samples in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebias.config.schema import Config
from saebias.errors import InputError, ModelError, SaebiasError
from saebias.pipeline.stage import StageContext

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from saebias.identifiers import HookPoint
    from saebias.vlm.forward import PrefixState
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.inputs import ModelInputs
    from saebias.vlm.loading import LoadedModel

SHIPPED = "saebias:"
DEFAULT_PROMPTS = {"en": "{image}Describe the picture in one sentence.", "ar": "{image}صف الصورة في جملة واحدة."}
ANY_CONTEXT = "*"


def model_source(cfg: Config) -> str:
    """The folder of a shipped or local model, or the hub id as it is; raises ModelError for an unknown shipped name."""
    name = cfg.model.name
    if name.startswith(SHIPPED):
        from saebias.captioner.shipped import shipped_model

        try:
            return str(shipped_model(name.removeprefix(SHIPPED)))
        except SaebiasError as error:
            raise ModelError(f"model.name={name}: {error}") from None
    return name


def model_files(cfg: Config) -> list[Path]:
    """The model's folder where it is local: its content decides numbers. A hub model is known by name and revision."""
    path = Path(model_source(cfg))
    return [path] if path.is_dir() else []


def prompts(cfg: Config) -> dict[str, str]:
    """The prompt per language, with `{image}` where the picture goes."""
    given = {"en": cfg.model.prompt_en, "ar": cfg.model.prompt_ar}
    own = DEFAULT_PROMPTS
    if cfg.model.name.startswith(SHIPPED):
        from saebias.captioner.spec import load_spec

        spec = load_spec(cfg.model.name.removeprefix(SHIPPED))
        own = {language: "{image}" + spec.prompt(language) for language in ("en", "ar")}
    return {language: given[language] or own[language] for language in ("en", "ar")}


def device_of(cfg: Config) -> str:
    """The device to run on: `auto` takes the first GPU where there is one."""
    import torch

    from saebias.stages.threads import usable_device

    if cfg.runtime.device != "auto":
        return usable_device(cfg.runtime.device)
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_model(cfg: Config) -> LoadedModel:
    """The model of the configuration, ready to run, with torch's threads set."""
    from saebias.stages.threads import use_threads
    from saebias.vlm.loading import load_model

    use_threads(cfg)
    return load_model(model_source(cfg), revision=cfg.model.revision, dtype=cfg.model.dtype, device=device_of(cfg), offline=cfg.model.offline)


@dataclass(frozen=True)
class ClosedSet:
    """Caption beginnings that disclose gender, for one context and language."""

    female: tuple[str, ...]
    male: tuple[str, ...]
    neutral: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        """F, then M, then N."""
        return [*self.female, *self.male, *self.neutral]


def closed_sets(ctx: StageContext) -> dict[tuple[str, str], ClosedSet]:
    """The closed set per (context, language); context `*` serves those that have none of their own."""
    grouped: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in ctx.table("continuations").to_pylist():
        grouped.setdefault((row["context"], row["language"]), {"F": [], "M": [], "N": []})[row["gender"]].append(row["text"])
    return {key: ClosedSet(tuple(texts["F"]), tuple(texts["M"]), tuple(texts["N"])) for key, texts in grouped.items()}


def closed_set_of(sets: Mapping[tuple[str, str], ClosedSet], context: str | None, language: str) -> ClosedSet | None:
    """The closed set that serves a sample of `context`, or None."""
    return sets.get((context or ANY_CONTEXT, language)) or sets.get((ANY_CONTEXT, language))


def spoken(ctx: StageContext) -> list[str]:
    """The languages that the corpus has captions in, English first."""
    samples = ctx.table("samples")
    return [language for language in ("en", "ar") if samples[f"caption_{language}"].null_count < samples.num_rows]


def samples_of(ctx: StageContext) -> list[dict[str, Any]]:
    """The samples of the corpus as rows, by sample id."""
    return sorted(ctx.table("samples").to_pylist(), key=lambda row: row["sample_id"])


def open_picture(path: str) -> Picture | str:
    """The picture as RGB, or the reason why it cannot be opened."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    # PIL's readers of single formats raise SyntaxError and ValueError for broken files, too.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"picture {path} cannot be opened: {' '.join(str(error).split())}"


def open_pictures(rows: Sequence[Mapping[str, Any]]) -> list[Picture | str]:
    """The picture of each sample as RGB, or the reason why it cannot be opened any more."""
    return [open_picture(row["image_path"]) for row in rows]


def batches(rows: Sequence[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Consecutive runs of at most `size` rows."""
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def features_of(loaded: LoadedModel, rows: Sequence[Mapping[str, Any]]) -> ImageFeatures:
    """The features of the samples' pictures; raises ModelError when one cannot be opened (extract has a status row for it)."""
    from saebias.vlm.images import encode_images

    pictures = open_pictures(rows)
    broken = [picture for picture in pictures if isinstance(picture, str)]
    if broken:
        raise ModelError(f"{broken[0]}; put it back, or run `saebias prepare --force`")
    return encode_images(loaded, pictures)


def shared_prefix(loaded: LoadedModel, inputs: ModelInputs, hooks: Sequence[HookPoint] = ()) -> PrefixState | None:
    """The state behind the pictures, to share over languages, captions and draws; None where this model or batch has none (slower, same numbers)."""
    from saebias.vlm.forward import image_prefix

    try:
        return image_prefix(loaded, inputs, hook_points=hooks)
    except (ModelError, InputError):
        # The picture's activations depend on the prompt, or the pictures of this batch differ in length.
        return None
