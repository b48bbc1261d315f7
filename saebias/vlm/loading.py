"""Models from a folder or the hub, with every failure told as one line that says what to do."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from saebias.errors import ModelError
from saebias.vlm.adapter import Adapter, build_adapter
from saebias.vlm.model_files import check_cached, check_folder, content_digest, quiet_transformers
from saebias.vlm.placement import Placement
from saebias.vlm.processors import load_processor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "auto": "auto"}


class OutOfMemory(ModelError):
    """A forward pass did not fit into memory; a smaller batch may."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to run: in evaluation mode, its weights without gradients.

    `processor` is None for a text-only model. `digest` is the SHA-256 of the weight files' content for a folder, the commit for a hub model.
    """

    model: Any
    processor: Any
    tokenizer: Any
    adapter: Adapter
    name: str
    revision: str | None
    digest: str

    @property
    def device(self) -> torch.device:
        """Where input tensors must lie."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the activations."""
        return self.model.dtype

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens that end a caption."""
        eos = self.model.generation_config.eos_token_id
        if eos is None:
            eos = self.tokenizer.eos_token_id
        if eos is None:
            raise ModelError(f"model {self.name} names no end-of-sequence token; set eos_token_id in its generation_config.json")
        return tuple(eos) if isinstance(eos, (list, tuple)) else (int(eos),)

    @property
    def pad_token_id(self) -> int:
        """The token that fills rows up; it is masked, so any valid token does."""
        pad = self.tokenizer.pad_token_id
        return self.eos_token_ids[0] if pad is None else pad


def from_parts(model: Any, tokenizer: Any, processor: Any = None, *, name: str, revision: str | None = None, digest: str = "in-memory") -> LoadedModel:
    """A LoadedModel of a model, tokenizer and processor that are already in memory."""
    model.eval().requires_grad_(False)
    return LoadedModel(model, processor, tokenizer, build_adapter(model), name, revision, digest)


def load_model(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str | torch.device = "cpu",
    offline: bool = True,
    placement: Placement | None = None,
) -> LoadedModel:
    """The model in the folder `name_or_path`, or of that name on the hub, on `device` with weights in `dtype` (float32, bfloat16, float16, auto).

    With `offline`, or HF_HUB_OFFLINE in the environment, nothing is ever downloaded. Raises ModelError, in one line with the command that helps, for
    a model that is missing, gated, incomplete (naming the files), of an unsupported kind, or too large for memory.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}; choose one of {', '.join(DTYPES)}")
    name = str(name_or_path)
    folder = Path(name_or_path)
    offline = offline or constants.HF_HUB_OFFLINE
    if folder.is_dir():
        weights = check_folder(folder)
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"model folder {name} does not exist; give a folder with config.json and weights, or a hub id such as google/gemma-3-4b-it")
    else:
        weights = []
    options: dict[str, Any] = {"local_files_only": offline, "revision": revision or "main"}
    with ThreadPoolExecutor(1) as hashing, _hub_errors(name, revision), memory_errors(f"loading {name}"), quiet_transformers():
        # Hashing leaves the interpreter: the files are read and checked beside the work of loading them.
        digest = hashing.submit(content_digest, weights) if weights else None
        if offline and not weights:
            check_cached(name, revision, _download_command(name, revision))
        config = AutoConfig.from_pretrained(name, **options)
        is_vision = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        if not is_vision and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ModelError(f"{name} is a {config.model_type} model, which is neither an image-text-to-text model nor a causal language model")
        auto: Any = AutoModelForImageTextToText if is_vision else AutoModelForCausalLM
        placed = (placement or Placement()).options(dtype, device)
        model, report = auto.from_pretrained(name, dtype=DTYPES[dtype], output_loading_info=True, ignore_mismatched_sizes=True, **placed, **options)
        _check_complete(name, report)  # which is why mismatches need not be refused before it
        if "device_map" not in placed:
            model = model.to(device)
        processor: Any = load_processor(name, config, **options) if is_vision else None
        tokenizer = processor.tokenizer if is_vision else AutoTokenizer.from_pretrained(name, **options)
        found = _commit(name, revision) if digest is None else digest.result()
    return from_parts(model, tokenizer, processor, name=name, revision=revision, digest=found)


def _check_complete(name: str, report: dict[str, Any]) -> None:
    """Refuse a model some of whose weights were not in its files: transformers would run it with random ones."""
    absent = [*sorted(report["missing_keys"]), *(str(key[0]) for key in sorted(report["mismatched_keys"]))]
    if absent:
        shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise ModelError(
            f"the weight files of {name} lack {len(absent)} tensors of the model or have them in other shapes ({shown}); fetch or save the model again"
        )


def _commit(name: str, revision: str | None) -> str:
    """The commit of the hub's snapshot that was loaded: the name of its folder in the cache."""
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(config).parent.name if isinstance(config, str) else f"unversioned:{name}"


@contextmanager
def _hub_errors(name: str, revision: str | None) -> Generator[None]:
    """Turn what transformers and the hub client raise into one line with the command that helps."""
    command = _download_command(name, revision)
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(f"model {name} is gated: accept its terms at its hub page, log in with `hf auth login`, then run `{command}`") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"model {name} has no revision {revision!r}; set model.revision to a commit of the model's hub page") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelError(_missing(name, command)) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"model {name} is not on the hub, or it is private; check the name, or log in with `hf auth login` and run `{command}`") from error
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a model folder nor a hub id such as google/gemma-3-4b-it") from error
    except SafetensorError as error:
        raise ModelError(f"a weight file of {name} is damaged ({_one_line(error)}); fetch it again with `{command}`, or save the model again") from error
    except OSError as error:
        # transformers wraps the hub client's errors in plain OSErrors; the cause tells a gated model from a missing file.
        if isinstance(error.__cause__, GatedRepoError):
            raise ModelError(f"model {name} is gated: accept its terms at its hub page, log in with `hf auth login`, then run `{command}`") from error
        if Path(name).is_dir():
            raise ModelError(f"model folder {name} cannot be read: {_one_line(error)}; save or download it again") from error
        raise ModelError(_missing(name, command)) from error
    except ImportError as error:
        raise ModelError(f"model {name} needs a package that is not installed: {_one_line(error)}") from error
    except ValueError as error:
        raise ModelError(f"model {name} cannot be used: {_one_line(error)}") from error


def _download_command(name: str, revision: str | None) -> str:
    return f"hf download {name}" + (f" --revision {revision}" if revision else "")


def _missing(name: str, command: str) -> str:
    other = "HF_HUB_OFFLINE is set in the environment" if constants.HF_HUB_OFFLINE else "or set model.offline=false"
    return f"model {name} is not on this machine and nothing is downloaded while offline; fetch it with `{command}` ({other})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def tells_of_memory(error: RuntimeError) -> bool:
    """Whether a plain RuntimeError says that an allocation failed: torch's on the processor, CUDA's own (for pinned memory), or cuBLAS's for its workspace."""
    return any(sign in str(error) for sign in ("not enough memory", "can't allocate memory", "STATUS_ALLOC_FAILED", "CUDA error: out of memory"))


@contextmanager
def memory_errors(doing: str) -> Generator[None]:
    """Turn an allocation that fails, on processor or GPU, into OutOfMemory."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"out of memory while {doing}; lower runtime.batch_size or use a smaller dtype") from error
    except RuntimeError as error:
        if not tells_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory while {doing}; lower runtime.batch_size or use a smaller dtype") from error
