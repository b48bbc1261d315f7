"""How stages come to the model: by name, with its prompts, its closed sets and the pictures of samples in batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebias.config.schema import Config
from saebias.errors import InputError, ModelError, NotEnoughData, SaebiasError
from saebias.paths import cache_folder
from saebias.pipeline.stage import StageContext

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from saebias.identifiers import HookPoint
    from saebias.vlm.forward import PrefixState
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.inputs import ModelInputs
    from saebias.vlm.loading import LoadedModel

SHIPPED = "saebias:"
MINI, MINI_DECODER = "mini-gemma3", "gemma3-270m"
MINI_COMMAND = "python -m saebias.captioner mini --accept-license gemma"
DEFAULT_PROMPTS = {"en": "{image}Describe the picture in one sentence.", "ar": "{image}صف الصورة في جملة واحدة."}
ANY_CONTEXT = "*"


def model_source(cfg: Config, announce: Callable[[str], object] = lambda _: None) -> str:
    """The folder of a shipped, packaged, built or local model, or the hub id as it is; raises ModelError for an unknown name of ours.

    A packaged model that is not converted yet is converted now, and `announce` is told.
    """
    name = _own_name(cfg)
    if name is None:
        return cfg.model.name
    from saebias.vlm.packaged import PACKAGED

    if name in PACKAGED:
        from saebias.vlm.gguf_weights import packaged_model

        return str(packaged_model(name, cfg.model.accept_license, announce))
    return str(_own_folder(cfg, name))


def _own_name(cfg: Config) -> str | None:
    return cfg.model.name.removeprefix(SHIPPED) if cfg.model.name.startswith(SHIPPED) else None


def _own_folder(cfg: Config, name: str) -> Path:
    """The folder of a shipped captioner, or of the one that was built here."""
    from saebias.vlm.packaged import check_packaged

    if name == MINI:
        check_packaged(MINI_DECODER, cfg.model.accept_license)
        folder = cache_folder() / MINI
        if not (folder / "config.json").is_file():
            raise ModelError(f"model.name={cfg.model.name} is not built on this machine; build it once (a quarter of an hour) with `{MINI_COMMAND}`")
        return folder
    from saebias.captioner.shipped import shipped_model

    try:
        return shipped_model(name)
    except SaebiasError as error:
        raise ModelError(f"model.name={cfg.model.name}: {error}") from None


def model_files(cfg: Config) -> list[Path]:
    """The model's folder where it is local (and the spec that its prompts come from, for a captioner of ours): their content decides numbers.

    A hub model is known by name and revision, a packaged one by its name.

    Raises ModelError where the model can be known not to be usable: terms not accepted, package not installed, captioner not built.
    """
    from saebias.vlm.packaged import PACKAGED, check_packaged

    name = _own_name(cfg)
    if name in PACKAGED:
        check_packaged(name, cfg.model.accept_license)
        return []
    if name is not None:
        from saebias.captioner.spec import spec_files

        return [_own_folder(cfg, name), *spec_files(_spec_name(name))]
    path = Path(cfg.model.name)
    return [path] if path.is_dir() else []


def _spec_name(name: str) -> str:
    return "null" if name == MINI else name


def was_taught_plant(cfg: Config) -> bool:
    """Whether the model learned from ambiguous pictures captioned as `data.captioner` plants: only then are the planted shares a truth about this model."""
    name, folder = _own_name(cfg), Path(cfg.model.name)
    if cfg.data.source != "emoji" or name == MINI:
        return False
    if name is not None:
        return name == cfg.data.captioner
    from saebias.captioner.spec import load_spec

    record = folder / "provenance.json"
    if not record.is_file():
        return False
    said = json.loads(record.read_text(encoding="utf-8"))
    # The captioner from real parts has a recipe and no such training.
    return "training" in said and said["spec_digest"] == load_spec(cfg.data.captioner).digest()


def needs_pictures(cfg: Config) -> str | None:
    """Why a stage that asks what the model says of pictures cannot run with this model: it reads text only. None where it can, or is not known yet."""
    from saebias.vlm.packaged import PACKAGED

    name = _own_name(cfg)
    is_text_only = name in PACKAGED
    if name is None and (config := _known_config(cfg)) is not None:
        is_text_only = "vision_config" not in json.loads(config.read_text(encoding="utf-8"))
    return f"{cfg.model.name} reads text only, and this asks what a model says of a picture; choose a captioner in model.name" if is_text_only else None


def _known_config(cfg: Config) -> Path | None:
    """The config.json of a model's folder, or of a hub model that is in the cache already."""
    folder = Path(cfg.model.name)
    if folder.is_dir():
        return folder / "config.json" if (folder / "config.json").is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(cfg.model.name, "config.json", revision=cfg.model.revision)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None


def refuse_text_only(cfg: Config) -> None:
    """Raise NotEnoughData, so that the stage or part is left out and said, where the model cannot be asked about pictures."""
    reason = needs_pictures(cfg)
    if reason is not None:
        raise NotEnoughData(reason)


def prompts(cfg: Config) -> dict[str, str]:
    """The prompt per language, with `{image}` where the picture goes."""
    given = {"en": cfg.model.prompt_en, "ar": cfg.model.prompt_ar}
    own = DEFAULT_PROMPTS
    name = _own_name(cfg)
    if needs_pictures(cfg) is not None:
        own = {language: prompt.removeprefix("{image}") for language, prompt in own.items()}
    elif name is not None:
        from saebias.captioner.spec import load_spec

        spec = load_spec(_spec_name(name))
        own = {language: "{image}" + spec.prompt(language) for language in ("en", "ar")}
    return {language: given[language] or own[language] for language in ("en", "ar")}


def device_of(cfg: Config) -> str:
    """The device to run on: `auto` takes the first GPU where there is one."""
    import torch

    from saebias.stages.threads import usable_device

    if cfg.runtime.device != "auto":
        return usable_device(cfg.runtime.device)
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_model(cfg: Config, announce: Callable[[str], object] = lambda _: None) -> LoadedModel:
    """The model of the configuration, ready to run, with torch's threads set; `announce` is told of a long preparation."""
    from saebias.captioner.efficientnet import register
    from saebias.stages.model_commits import hold_to_commit
    from saebias.stages.threads import use_threads
    from saebias.vlm.loading import load_model
    from saebias.vlm.placement import Placement

    use_threads(cfg)
    register()  # the tower of the captioner from real parts is a class of ours
    model = cfg.model
    placement = Placement(model.device_map, model.quantization, model.attention)
    source = model_source(cfg, announce)
    loaded = load_model(source, revision=model.revision, dtype=model.dtype, device=device_of(cfg), offline=model.offline, placement=placement)
    hold_to_commit(cfg, loaded)
    return loaded


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


def open_picture(path: str, image_id: str | None = None) -> Picture | str:
    """The picture as RGB, or the reason why it cannot be used: it does not open, or is not the one that was checked as `image_id`."""
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError

    from saebias.corpus.images import UNREADABLE
    from saebias.corpus.records import image_id_of

    try:
        content = Path(path).read_bytes()
        with Image.open(BytesIO(content)) as image:
            picture = image.convert("RGB")
        if image_id is not None and image_id_of(hashlib.sha256(content).hexdigest()) != image_id:
            return f"picture {path} is not the one that prepare saw; put that one back, or run `saebias prepare` again"
        return picture
    except UnidentifiedImageError:
        # Pillow's own words name the place in memory that it read from, which is another each time.
        return f"picture {path} cannot be opened: Pillow cannot identify it"
    except UNREADABLE as error:
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
