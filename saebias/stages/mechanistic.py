"""`mechanistic`: logit lens, probes, and cross-lingual alignment at the position that decides the gender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from saebias.config.schema import Config
from saebias.errors import InputError, NotEnoughData
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.behavior_metrics import none_if_nan
from saebias.stages.model_access import closed_set_of, closed_sets, model_files, open_model, prompts

if TYPE_CHECKING:
    from torch import Tensor

    from saebias.identifiers import HookPoint
    from saebias.stages.token_index import TokenIndex
    from saebias.store.arrays import ActivationArray
    from saebias.vlm.loading import LoadedModel

LANGUAGES = ("en", "ar")
Rows = TypeVar("Rows")


@dataclass(frozen=True)
class Source:
    """The activations, their row index and the samples, with the residual-stream hook points by layer."""

    array: ActivationArray
    index: TokenIndex
    samples: dict[str, dict[str, Any]]
    hooks: list[HookPoint]

    def gender(self, sample_ids: np.ndarray) -> np.ndarray:
        """Visual gender per row, `-` where nobody said."""
        return np.array([self.samples[sample_id]["visual_gender"] or "-" for sample_id in sample_ids])

    def column(self, sample_ids: np.ndarray, name: str) -> np.ndarray:
        """A column of the samples per row; an empty context is the picture group itself."""
        return np.array([self.samples[sample_id][name] or self.samples[sample_id]["cluster_id"] for sample_id in sample_ids])


def open_source(ctx: StageContext) -> Source:
    """The extract run that this stage stands on."""
    from saebias.stages.threads import use_threads
    from saebias.stages.token_index import token_index
    from saebias.stages.train import activations_path
    from saebias.store.arrays import ActivationArray

    use_threads(ctx.cfg)
    array = ActivationArray(activations_path(ctx))
    hooks = sorted(hook for hook in array.hooks if hook.site == "resid_post")
    if not hooks:
        raise InputError("mechanistic: no residual-stream activations were kept; put resid_post into extract.sites")
    return Source(array, token_index(ctx), {row["sample_id"]: row for row in ctx.table("samples").to_pylist()}, hooks)


def run_lens(ctx: StageContext) -> None:
    """The lens at the decision position of every image with a known visual gender."""
    for name in ctx.pending(["lens"]):
        rows = _left_out_or(ctx, "lens", lambda: lens_rows(ctx, open_source(ctx), open_model(ctx.cfg)), [])
        with ctx.unit(name) as out:
            out.rows("lens", rows)


def lens_rows(ctx: StageContext, source: Source, loaded: LoadedModel) -> list[dict[str, Any]]:
    """Gap, KL to the last layer and entropy per layer, language and visual gender."""
    import torch

    from saebias.mechanistic.lens import LogitLens

    gender = source.gender(source.index.sample_id)
    part = source.index.where(source.index.decision & (gender != "-"))
    female, male = _first_tokens(ctx, loaded, part, source)
    x_LND = torch.from_numpy(np.stack([source.array.read_rows(hook, part.row) for hook in source.hooks])).to(loaded.device, loaded.dtype)
    last = source.hooks[-1].layer == loaded.adapter.n_layers - 1
    final_ND = None if last else _last_layer(ctx, loaded, part, source)
    reading = LogitLens(loaded.adapter.unembed).read(x_LND, female, male, final_ND=final_ND)
    found = reading.rows(
        [hook.layer for hook in source.hooks],
        list(part.language),
        list(source.gender(part.sample_id)),
        list(source.column(part.sample_id, "cluster_id")),
        seed=ctx.seed("lens"),
        n_draws=ctx.cfg.mechanistic.bootstrap,
    )
    return [{**asdict(row), "gap_low": none_if_nan(row.gap_low), "gap_high": none_if_nan(row.gap_high)} for row in found]


def _first_tokens(ctx: StageContext, loaded: LoadedModel, part: TokenIndex, source: Source) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Per row the first token ids in which its F and M continuations part."""
    from saebias.stages.steer_setup import boundary
    from saebias.vlm.prompts import decision

    sets, prompt = closed_sets(ctx), prompts(ctx.cfg)
    known = {}
    for sample_id, language in set(zip(part.sample_id, part.language, strict=True)):
        context = source.samples[sample_id]["context"]
        chosen = closed_set_of(sets, context, language)
        assert chosen is not None, "a decision row has a closed set, or it would not be one"
        if (context, language) not in known:
            known[context, language] = decision(loaded, boundary(prompt[language]), list(chosen.female), list(chosen.male))
    found = [known[source.samples[sample_id]["context"], language] for sample_id, language in zip(part.sample_id, part.language, strict=True)]
    return [item.female_ids for item in found], [item.male_ids for item in found]


def _last_layer(ctx: StageContext, loaded: LoadedModel, part: TokenIndex, source: Source) -> Tensor:
    """The residual stream after the model's last layer at the same positions, where extract did not keep that layer."""
    import torch

    from saebias.identifiers import HookPoint
    from saebias.stages.model_access import features_of
    from saebias.vlm.forward import activations
    from saebias.vlm.inputs import build_inputs

    hook = HookPoint(loaded.adapter.n_layers - 1)
    out = torch.empty(len(part), loaded.adapter.d_model, dtype=loaded.dtype)
    with ctx.reporter.task("last layer", len(part), "rows") as task:
        for language in LANGUAGES:
            rows = np.flatnonzero(part.language == language)
            for start in range(0, len(rows), ctx.cfg.runtime.batch_size):
                chosen = rows[start : start + ctx.cfg.runtime.batch_size]
                of = [source.samples[part.sample_id[row]] for row in chosen]
                texts = [sample[f"caption_{language}"] for sample in of]
                inputs = build_inputs(loaded, features_of(loaded, of), [prompts(ctx.cfg)[language]] * len(of), texts, ctx.cfg.model.chat_template)
                x_BTD = activations(loaded, inputs, [hook])[hook]
                for number, row in enumerate(chosen):
                    out[row] = x_BTD[number, inputs.column(number, int(part.position[row]))].cpu()
                task.advance(len(chosen))
    return out.to(loaded.device)


def run_probes(ctx: StageContext) -> None:
    """Probes of visible gender on clear images, per layer, language and token kind."""
    for name in ctx.pending(["probes"]):
        rows = _left_out_or(ctx, "probes", lambda: probe_rows(ctx, open_source(ctx)), [])
        with ctx.unit(name) as out:
            out.rows("probes", rows)


def probe_rows(ctx: StageContext, source: Source) -> list[dict[str, Any]]:
    """One row per probe and baseline, with transfer between the languages."""
    from saebias.mechanistic.probes import ProbePlace, ProbeRows, TransformerProbeAnalyzer

    analyzer = TransformerProbeAnalyzer(n_folds=ctx.cfg.mechanistic.folds, n_permutations=min(ctx.cfg.mechanistic.permutations, 99))
    rows = []
    with ctx.reporter.task("probing", len(source.hooks) + 1, "layers") as task:
        for hook in source.hooks:
            x_ND = source.array.read(hook)
            places = {
                ProbePlace(language, kind, hook.layer): _probe_rows(source, x_ND, language, kind)
                for kind in ("decision", "image", "prompt")
                for language in LANGUAGES
                if _has(source, language, kind)
            }
            rows += analyzer.read(places, seed=ctx.seed("probes"))
            task.advance()
        pixels: ProbeRows = _pixel_rows(source)
        rows += analyzer.read({ProbePlace("en", "image", None, "pixels"): pixels}, seed=ctx.seed("probes"))
        task.advance()
    return [_nan_to_null(asdict(row)) for row in rows]


def _kind_mask(source: Source, language: str, kind: str) -> np.ndarray:
    of_kind = source.index.decision if kind == "decision" else source.index.token_kind == kind
    return of_kind & (source.index.language == language) & np.isin(source.gender(source.index.sample_id), ("F", "M"))


def _has(source: Source, language: str, kind: str) -> bool:
    return bool(_kind_mask(source, language, kind).any())


def _probe_rows(source: Source, x_ND: np.ndarray, language: str, kind: str):
    """The tokens of one kind, averaged within an image (a probe's reading; dictionaries never see an average)."""
    from saebias.mechanistic.probes import ProbeRows, pool_tokens

    part = source.index.where(_kind_mask(source, language, kind))
    pooled, sample_ids = pool_tokens(x_ND[part.row], part.sample_id.astype(str))
    return ProbeRows(
        x_ND=pooled,
        is_female_N=source.gender(sample_ids) == "F",
        image_N=sample_ids,
        cluster_N=source.column(sample_ids, "cluster_id"),
        context_N=source.column(sample_ids, "context"),
        # Image and prompt tokens stand before the caption, and the decision row is the decision itself.
        offset_N=np.zeros(len(sample_ids), dtype=int) if kind == "decision" else np.full(len(sample_ids), -1),
    )


def _pixel_rows(source: Source):
    from PIL import Image

    from saebias.mechanistic.probes import ProbeRows

    sample_ids = np.array(sorted(sample_id for sample_id, row in source.samples.items() if row["visual_gender"] in ("F", "M")))
    pixels = []
    for sample_id in sample_ids:
        with Image.open(source.samples[sample_id]["image_path"]) as image:
            pixels.append(np.asarray(image.convert("RGB").resize((16, 16)), dtype=np.float32).ravel() / 255)
    clusters, contexts = source.column(sample_ids, "cluster_id"), source.column(sample_ids, "context")
    return ProbeRows(np.stack(pixels), source.gender(sample_ids) == "F", sample_ids, clusters, contexts)


def run_alignment(ctx: StageContext) -> None:
    """Cross-lingual measures per layer, and the points of the 3-D figure (axes fitted on select, points of report)."""
    for name in ctx.pending(["alignment"]):
        source = open_source(ctx)
        rows, points = _left_out_or(ctx, "alignment", lambda source=source: alignment_tables(ctx, source), ([], []))
        with ctx.unit(name) as out:
            out.rows("alignment", rows)
            out.rows("gender_projections", points)


def alignment_tables(ctx: StageContext, source: Source) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows of alignment, rows of gender_projections)."""
    from saebias.mechanistic.alignment import PairedActivations, alignment_rows

    en, ar = _paired(source)
    rows, points = [], []
    with ctx.reporter.task("aligning languages", len(source.hooks), "layers") as task:
        for hook in source.hooks:
            x_en_ND, x_ar_ND = source.array.read_rows(hook, en.row), source.array.read_rows(hook, ar.row)
            paired = PairedActivations(hook.layer, x_en_ND, x_ar_ND, source.gender(en.sample_id), source.column(en.sample_id, "cluster_id"))
            cfg = ctx.cfg.mechanistic
            rows += alignment_rows(paired, seed=ctx.seed("alignment"), n_permutations=cfg.permutations, n_folds=cfg.folds)
            points += _points(source, hook.layer, np.concatenate([x_en_ND, x_ar_ND]), np.concatenate([en.sample_id, ar.sample_id]), len(en))
            task.advance()
    return [_nan_to_null(asdict(row)) for row in rows], points


def _paired(source: Source) -> tuple[TokenIndex, TokenIndex]:
    """The decision rows of samples that have one in both languages, in the same order; raises InputError when there is none."""
    known = source.gender(source.index.sample_id) != "-"
    parts = [source.index.where(source.index.decision & known & (source.index.language == language)) for language in LANGUAGES]
    shared = np.intersect1d(parts[0].sample_id.astype(str), parts[1].sample_id.astype(str))
    if len(shared) == 0:
        raise NotEnoughData("mechanistic: no image has a decision row in both languages; alignment needs English and Arabic captions of the same images")
    kept = [part.where(np.isin(part.sample_id.astype(str), shared)) for part in parts]
    assert list(kept[0].sample_id) == list(kept[1].sample_id), "shards hold samples in one order for both languages"
    return kept[0], kept[1]


def _points(source: Source, layer: int, x_ND: np.ndarray, sample_ids: np.ndarray, n_english: int) -> list[dict[str, Any]]:
    from saebias.mechanistic.gender_projection import fit_gender_axes

    language = np.array(["en"] * n_english + ["ar"] * (len(sample_ids) - n_english))
    gender, split = source.gender(sample_ids), source.column(sample_ids, "split")
    fitted, shown = split == "select", split == "report"
    axes = fit_gender_axes(x_ND[fitted], list(language[fitted]), list(gender[fitted]))
    contexts = [source.samples[sample_id]["context"] for sample_id in sample_ids[shown]]
    points = axes.project(layer, x_ND[shown], list(sample_ids[shown]), list(language[shown]), list(gender[shown]), contexts)
    return [asdict(point) for point in points]


def _left_out_or(ctx: StageContext, what: str, compute: Callable[[], Rows], nothing: Rows) -> Rows:
    """What `compute` gives; where the data lack what it needs, nothing, and the report says so."""
    try:
        return compute()
    except NotEnoughData as error:
        ctx.reporter.warn(f"{what} is left out: {error}", alarm=True)
        return nothing


def _nan_to_null(row: dict[str, Any]) -> dict[str, Any]:
    return {name: none_if_nan(value) if isinstance(value, float) else value or None if name == "note" else value for name, value in row.items()}


def _estimate(share: float):
    def estimate(cfg: Config) -> Estimate:
        return Estimate(2**20, 800 * 2**20, 2 + share * cfg.data.n)

    return estimate


def _stage(part: str, run: Any, help_text: str, tables: Sequence[str], reads: Sequence[str], seconds_per_sample: float) -> Stage:
    return Stage(
        name=f"mechanistic.{part}",
        run=run,
        help=help_text,
        needs=("prepare", "extract"),
        reads=tuple(reads),
        tables=tuple(tables),
        inputs=model_files if "model" in reads else lambda cfg: [],
        estimate=_estimate(seconds_per_sample),
    )


MECHANISTIC_LENS = _stage("lens", run_lens, "what each layer would say", ("lens",), ("model", "mechanistic.bootstrap"), 0.001)
MECHANISTIC_PROBES = _stage("probes", run_probes, "where gender can be read", ("probes",), ("mechanistic.folds", "mechanistic.permutations"), 0.005)
MECHANISTIC_ALIGNMENT = _stage(
    "alignment",
    run_alignment,
    "how alike the languages are inside",
    ("alignment", "gender_projections"),
    ("mechanistic.folds", "mechanistic.permutations"),
    0.004,
)
