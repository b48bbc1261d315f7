"""`mechanistic --only codes`: one pass over the activations of each layer; every tool on latents reads the sparse codes it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.config.schema import Config
from saebias.errors import NotEnoughData
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.activation_source import Source, open_source, say_caption_is_read
from saebias.stages.label_access import label_sources, lexicon_files
from saebias.stages.mechanistic import first_of_sample
from saebias.stages.model_access import model_files

if TYPE_CHECKING:
    from saebias.mechanistic.codes import SparseCodes
    from saebias.stages.dictionaries import Dictionary

CHUNK_CODES = 16_000_000
"""Numbers of one dense chunk of codes; wider dictionaries are encoded in fewer rows at a time."""
READ_ROWS = 65_536
"""Activation rows that are in memory at once."""
HELD_OUT = "select+report"
"""Splits that the tools on latents read: images that no dictionary was trained on. They choose nothing before they test, so both halves may serve."""


def run_codes(ctx: StageContext) -> None:
    """The words of captions by form and meaning, then per dictionary the codes at decision positions and at those words."""
    from saebias.stages.caption_words import word_rows
    from saebias.stages.dictionaries import main_dictionaries

    source = open_source(ctx)
    for name in ctx.pending(["words"]):
        rows = word_rows(ctx, source)
        with ctx.unit(name) as out:
            out.rows("caption_words", rows)
    words = np.array(ctx.table("caption_words")["row"].to_pylist(), dtype=np.int64)
    held_out = source.index.decision & np.isin(source.index.split, ("select", "report"))
    if not held_out.any():
        ctx.reporter.warn(
            "the tools on latents are left out: no decision row in the splits select and report; give data.continuations, or more images", alarm=True
        )
    wanted = np.union1d(source.index.row[held_out], words)
    # The other sites of a layer write into the residual stream, where the tools read what has become of all of them.
    dictionaries = {dictionary.hook.name: dictionary for dictionary in main_dictionaries(ctx) if dictionary.hook.site == "resid_post"}
    with ctx.reporter.task("encoding", len(dictionaries), "dictionaries") as task:
        for name in ctx.pending(list(dictionaries) if len(wanted) else []):
            codes = encode_rows(dictionaries[name], source, wanted)
            with ctx.unit(name) as out:
                out.keep([save_codes(out.folder, dictionaries[name], wanted, codes)])
                out.count("codes", len(wanted))
            task.advance()


def encode_rows(dictionary: Dictionary, source: Source, rows: np.ndarray) -> SparseCodes:
    """Codes of the dictionary on activation rows (sorted), a chunk of rows at a time."""
    import torch

    from saebias.mechanistic.codes import SparseCodes

    def chunks() -> Iterator[np.ndarray]:
        step = max(64, CHUNK_CODES // dictionary.sae.spec.n_latents)
        for first in range(0, len(rows), READ_ROWS):
            x_ND = torch.from_numpy(source.array.read_rows(dictionary.hook, rows[first : first + READ_ROWS]))
            for x_CD in x_ND.split(step):
                yield dictionary.sae.encode(x_CD).numpy()

    return SparseCodes.from_chunks(chunks(), name=f"codes of {dictionary.sae_id}")


def save_codes(folder: Path, dictionary: Dictionary, rows: np.ndarray, codes: SparseCodes) -> Path:
    """Write the codes with the rows they are of and the dictionary's identity; returns the file."""
    from safetensors.numpy import save_file

    from saebias.store.files import replacing

    path = folder / "codes" / f"{dictionary.hook.name}.safetensors"
    tensors = {"rows": rows, "starts": codes.matrix.indptr.astype(np.int64), "places": codes.matrix.indices.astype(np.int32), "values": codes.matrix.data}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"sae_id": dictionary.sae_id, "hook": dictionary.hook.name, "n_latents": str(codes.n_latents)})
    return path


@dataclass(frozen=True)
class LayerCodes:
    """The codes of one dictionary that `mechanistic.codes` kept."""

    sae_id: str
    hook: str
    path: Path
    n_latents: int

    @property
    def layer(self) -> int:
        """The decoder layer."""
        from saebias.identifiers import HookPoint

        return HookPoint.parse(self.hook).layer

    @cached_property
    def _stored(self) -> tuple[np.ndarray, SparseCodes]:
        from safetensors.numpy import load_file
        from scipy import sparse

        from saebias.mechanistic.codes import SparseCodes

        found = load_file(self.path)
        shape = len(found["rows"]), self.n_latents
        return found["rows"], SparseCodes(sparse.csc_array((found["values"], found["places"], found["starts"]), shape=shape))

    def at(self, rows: np.ndarray) -> SparseCodes:
        """Codes at activation rows, in the order given."""
        kept, codes = self._stored
        place = np.searchsorted(kept, rows)
        assert (kept[np.minimum(place, len(kept) - 1)] == rows).all(), "the codes of these rows were kept"
        return codes.rows(place)


def layer_codes(ctx: StageContext) -> list[LayerCodes]:
    """What `mechanistic.codes` left, by layer; each is read when it is first asked for."""
    from safetensors import safe_open

    found = []
    for path in sorted((ctx.parent_folder("mechanistic.codes") / "files" / "codes").glob("*.safetensors")):
        with safe_open(path, "np") as stream:
            meta = stream.metadata()
        found.append(LayerCodes(meta["sae_id"], meta["hook"], path, int(meta["n_latents"])))
    return found


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Decision rows of one language on images that no dictionary was trained on, with what is known of their pictures; arrays [N]."""

    row: np.ndarray
    sample_id: np.ndarray
    gender: np.ndarray
    cluster: np.ndarray
    context: np.ndarray
    split: np.ndarray

    def where(self, keep: np.ndarray) -> HeldOut:
        """The rows that `keep` [N] marks."""
        return HeldOut(**{name: getattr(self, name)[keep] for name in self.__dataclass_fields__})


def held_out(ctx: StageContext, languages: Sequence[str]) -> dict[str, HeldOut]:
    """The decision rows per language in the splits select and report; raises NotEnoughData when women or men are missing among them."""
    from saebias.stages.token_index import token_index

    index = token_index(ctx)
    samples = {row["sample_id"]: row for row in ctx.table("samples").to_pylist()}
    found = {}
    for language in languages:
        part = index.where(index.decision & (index.language == language) & np.isin(index.split, ("select", "report")))
        part = first_of_sample(part)
        say_caption_is_read(ctx, part, f"the tools on latents ({language})")
        of = [samples[sample_id] for sample_id in part.sample_id]
        gender = np.array([row["visual_gender"] or "-" for row in of], dtype=str)
        n_women, n_men = int((gender == "F").sum()), int((gender == "M").sum())
        if min(n_women, n_men) < 2:
            raise NotEnoughData(
                f"mechanistic: {n_women} images of women and {n_men} of men in {language} outside the split sae; each needs two at least: "
                "give more images, or name data.columns.visual_gender"
            )
        cluster = np.array([row["cluster_id"] for row in of])
        context = np.array([row["context"] or row["cluster_id"] for row in of])
        found[language] = HeldOut(part.row, part.sample_id.astype(str), gender, cluster, context, part.split.astype(str))
    return found


def paired_rows(ctx: StageContext) -> tuple[HeldOut, HeldOut]:
    """The held-out decision rows of samples that have one in both languages, in one order; raises NotEnoughData when there is none."""
    found = held_out(ctx, ("en", "ar"))
    shared = np.intersect1d(found["en"].sample_id, found["ar"].sample_id)
    if not len(shared):
        raise NotEnoughData("mechanistic: no held-out image has a decision row in both languages; give English and Arabic captions of the same images")
    kept = [side.where(np.isin(side.sample_id, shared)) for side in (found["en"], found["ar"])]
    en, ar = (side.where(np.argsort(side.sample_id, kind="stable")) for side in kept)
    assert list(en.sample_id) == list(ar.sample_id), "one decision row per sample and language"
    return en, ar


def latents_stage(
    part: str,
    run: Any,
    help_text: str,
    tables: tuple[str, ...],
    *,
    needs: tuple[str, ...] = (),
    reads: tuple[str, ...] = (),
    seconds: float = 4.0,
    version: int = 1,
) -> Stage:
    """The stage of a tool that reads the codes: behind the quality gate that `analyze.features` holds."""
    return Stage(
        name=f"mechanistic.{part}",
        run=run,
        help=help_text,
        needs=("prepare", "extract", "analyze.features", "mechanistic.codes", *needs),
        reads=reads,
        tables=tables,
        inputs=model_files if "model" in reads else lambda cfg: [],
        estimate=lambda cfg: Estimate(4 * 2**20, 800 * 2**20, 1 + seconds * cfg.data.n / 2000),
        version=version,
    )


def _inputs(cfg: Config) -> list[Path]:
    return [*model_files(cfg), *lexicon_files(cfg), *label_sources()]


MECHANISTIC_CODES = Stage(
    name="mechanistic.codes",
    run=run_codes,
    help="codes of the dictionaries, once for all tools on latents",
    needs=("prepare", "extract", "train", "analyze.features"),
    reads=("model", "labels"),
    tables=("caption_words",),
    inputs=_inputs,
    estimate=lambda cfg: Estimate(20 * 2**20, 900 * 2**20, 3 + cfg.data.n * 0.002),
)
