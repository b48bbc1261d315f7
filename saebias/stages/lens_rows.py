"""`mechanistic --only lens`: what each layer would say at the deciding position, and what the picture's tokens stand near."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.config.schema import Config
from saebias.errors import NotEnoughData
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.activation_source import Source, open_source, say_caption_is_read
from saebias.stages.behavior_metrics import none_if_nan
from saebias.stages.mechanistic import left_out_or
from saebias.stages.model_access import closed_set_of, closed_sets, model_files, open_model, prompts
from saebias.stages.scene_pairs import spread_evenly
from saebias.stages.token_index import TokenIndex

if TYPE_CHECKING:
    from torch import Tensor

    from saebias.mechanistic.lens import LensReading, LogitLens
    from saebias.mechanistic.tuned_lens import TunedLens
    from saebias.vlm.loading import LoadedModel

Table = list[dict[str, Any]]
TABLES = ("lens", "lens_tokens", "lens_fits", "image_neighbours")
TOP_TOKENS = 5
SHOWN_IMAGES = 4
"""Pictures of each visual gender whose tokens are put into words."""
BANK_ROWS = 3000
FIT_ROWS, HELD_OUT_ROWS = 6000, 2000
CHUNK_NUMBERS = 64_000_000
"""Activations in memory at once, over all layers."""


def run_lens(ctx: StageContext) -> None:
    """The lens at the deciding position of every image with a known visual gender, and the words that image tokens stand near."""
    for name in ctx.pending(["lens"]):
        tables = left_out_or(ctx, "lens", lambda: lens_tables(ctx, open_source(ctx), open_model(ctx.cfg)), {table: [] for table in TABLES})
        with ctx.unit(name) as out:
            for table, rows in tables.items():
                out.rows(table, rows)


def lens_tables(ctx: StageContext, source: Source, loaded: LoadedModel) -> dict[str, Table]:
    """The rows of all tables of the lens."""
    from saebias.mechanistic.lens import LogitLens

    if source.hooks[-1].layer != loaded.adapter.n_layers - 1:
        raise NotEnoughData(f"mechanistic: the lens compares with the model's last layer, {loaded.adapter.n_layers - 1}; put it into extract.layers")
    part = source.index.where(source.index.decision & (source.row_gender != "-"))
    if not len(part):
        raise NotEnoughData(
            "mechanistic: no decision row of an image that shows a woman or a man; the lens reads those: set extract.tokens.decision=true, "
            "or see data.continuations and data.columns.visual_gender"
        )
    say_caption_is_read(ctx, part, "lens")
    female, male = _first_tokens(ctx, loaded, part, source)
    lens = LogitLens(loaded.adapter.unembed)
    fits, of_text = _tuned(ctx, source, loaded) if ctx.cfg.mechanistic.tuned_lens else ([], None)
    seen = _read_chunks(source, loaded, part, lens, female, male, of_text)
    rows = _lens_rows(ctx, source, part, seen.logit, "logit")
    if seen.tuned is not None:
        rows += _lens_rows(ctx, source, part.where(part.split == "report"), seen.tuned, "tuned")
    return {
        "lens": rows,
        "lens_tokens": _token_rows(source, part, seen.probability_sums, loaded),
        "lens_fits": fits,
        "image_neighbours": _neighbours(ctx, source, loaded),
    }


def _activations(source: Source, loaded: LoadedModel, part: TokenIndex) -> Tensor:
    import torch

    return torch.from_numpy(np.stack([source.array.read_rows(hook, part.row) for hook in source.hooks])).to(loaded.device, loaded.dtype)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the lens saw: readings of all rows, of those of the report split through the tuned lens, and sums of probabilities per group and layer [L, V]."""

    logit: LensReading
    tuned: LensReading | None
    probability_sums: dict[tuple[str, str], Tensor]


def _read_chunks(
    source: Source,
    loaded: LoadedModel,
    part: TokenIndex,
    lens: LogitLens,
    female: list[tuple[int, ...]],
    male: list[tuple[int, ...]],
    of_text: TunedLens | None,
) -> Seen:
    """Reads a bounded number of activations at a time: all layers of all rows would not fit where there are many images."""
    import torch

    from saebias.mechanistic.lens import LensReading

    gender, told = source.gender(part.sample_id), part.split == "report"
    step = max(1, CHUNK_NUMBERS // (len(source.hooks) * loaded.adapter.d_model))
    logit, tuned, sums = [], [], {}
    for start in range(0, len(part), step):
        numbers = np.arange(start, min(start + step, len(part)))
        x_LND = _activations(source, loaded, part.where(np.isin(np.arange(len(part)), numbers)))
        logit.append(lens.read(x_LND, [female[n] for n in numbers], [male[n] for n in numbers]))
        if of_text is not None and told[numbers].any():
            kept = torch.from_numpy(told[numbers])
            ids = ([side[n] for n in numbers if told[n]] for side in (female, male))
            tuned.append(lens.read(of_text.translated(x_LND[:, kept]), *ids, final_ND=x_LND[-1][kept]))
        for group in sorted(set(zip(part.language[numbers].tolist(), gender[numbers].tolist(), strict=True))):
            of_group = torch.from_numpy((part.language[numbers] == group[0]) & (gender[numbers] == group[1]))
            added_LV = torch.stack([lens.probability_sums(x_ND[of_group]) for x_ND in x_LND])
            sums[group] = added_LV if group not in sums else sums[group] + added_LV
    return Seen(LensReading.joined(logit), LensReading.joined(tuned) if tuned else None, sums)


def _lens_rows(ctx: StageContext, source: Source, part: TokenIndex, reading: LensReading, name: str) -> Table:
    found = reading.rows(
        [hook.layer for hook in source.hooks],
        list(part.language),
        list(source.gender(part.sample_id)),
        list(source.column(part.sample_id, "cluster_id")),
        seed=ctx.seed("lens"),
        n_draws=ctx.cfg.mechanistic.bootstrap,
        lens=name,
    )
    return [{**asdict(row), "gap_low": none_if_nan(row.gap_low), "gap_high": none_if_nan(row.gap_high)} for row in found]


def _token_rows(source: Source, part: TokenIndex, probability_sums: dict[tuple[str, str], Tensor], loaded: LoadedModel) -> Table:
    """The likeliest tokens per layer, language and visual gender."""
    from saebias.mechanistic.circuits import token_texts

    text, gender = token_texts(loaded.tokenizer.decode), source.gender(part.sample_id)
    rows = []
    for number, hook in enumerate(source.hooks):
        for (language, shown), sums_LV in sorted(probability_sums.items()):
            chances, ids = (sums_LV[number] / int(((part.language == language) & (gender == shown)).sum())).topk(TOP_TOKENS)
            rows += [
                {"layer": hook.layer, "language": language, "visual_gender": shown, "place": place, "token": text(int(token)), "mean_probability": float(p)}
                for place, (token, p) in enumerate(zip(ids, chances, strict=True), start=1)
            ]
    return rows


def _tuned(ctx: StageContext, source: Source, loaded: LoadedModel) -> tuple[Table, TunedLens]:
    """(rows of lens_fits, the lens of text tokens), trained on the sae and select splits and judged on the report split."""
    from saebias.mechanistic.tuned_lens import fit_tuned_lens

    fits, of_text = [], None
    for kind in ("image", "text"):
        of_kind = (source.index.token_kind == "image") == (kind == "image")
        fitted, held = (
            _drawn(source.index.where(of_kind & (is_report == (source.index.split == "report"))), n, ctx)
            for is_report, n in ((False, FIT_ROWS), (True, HELD_OUT_ROWS))
        )
        if not len(fitted) or not len(held):
            ctx.reporter.warn(f"mechanistic.lens: no {kind} tokens in one of the splits; their tuned lens is left out", alarm=True)
            continue
        rows_N = np.concatenate([fitted.row, held.row])
        order = np.argsort(rows_N)
        both = TokenIndex(**{name: np.concatenate([getattr(fitted, name), getattr(held, name)])[order] for name in TokenIndex.__dataclass_fields__})
        x_LND = _activations(source, loaded, both)
        lens = fit_tuned_lens(x_LND, x_LND[-1], loaded.adapter.unembed, both.split == "report", seed=ctx.seed(f"tuned-{kind}"))
        counts = {"n_fitted": len(fitted), "n_held_out": len(held)}
        numbers = zip(source.hooks, lens.kl_before_L, lens.kl_after_L, strict=True)
        fits += [{"token_kind": kind, "layer": hook.layer, "kl_before": float(before), "kl_after": float(after)} | counts for hook, before, after in numbers]
        of_text = lens if kind == "text" else of_text
    if of_text is None:
        raise NotEnoughData("mechanistic: a tuned lens needs text tokens in the report split and outside it; extract more samples")
    return fits, of_text


def _drawn(part: TokenIndex, n: int, ctx: StageContext) -> TokenIndex:
    """At most `n` rows, drawn without replacement, in order."""
    if len(part) <= n:
        return part
    keep = np.zeros(len(part), dtype=bool)
    keep[np.random.default_rng(ctx.seed("rows")).choice(len(part), n, replace=False)] = True
    return part.where(keep)


def _neighbours(ctx: StageContext, source: Source, loaded: LoadedModel) -> Table:
    """Words near the image tokens of a few pictures of the report split; the bank holds caption tokens of other pictures."""
    import torch

    from saebias.mechanistic.circuits import token_texts
    from saebias.mechanistic.tuned_lens import neighbour_words

    samples = [row for row in source.samples.values() if row["split"] == "report" and row["visual_gender"]]
    chosen = {
        r["sample_id"] for shown in ("F", "M", "A") for r in spread_evenly([s for s in samples if s["visual_gender"] == shown], SHOWN_IMAGES, ctx.cfg.seed)
    }
    is_image = source.index.token_kind == "image"
    # Both languages read the same picture: one of them is enough.
    first = "en" if (is_image & (source.index.language == "en")).any() else "ar"
    queries = source.index.where(is_image & (source.index.language == first) & np.isin(source.index.sample_id.astype(str), sorted(chosen)))
    bank = _drawn(source.index.where((source.index.token_kind == "caption") & (source.index.split == "sae")), BANK_ROWS, ctx)
    if not len(queries) or len(bank) < 10:
        return []
    text, token_id_M = token_texts(loaded.tokenizer.decode), _token_ids(ctx, bank)
    # Positions of image tokens within their picture.
    start = {sample: queries.position[queries.sample_id == sample].min() for sample in set(queries.sample_id)}
    rows = []
    for hook in source.hooks:
        x_ND, bank_MD = (torch.from_numpy(source.array.read_rows(hook, some.row)) for some in (queries, bank))
        for sample, position, word in zip(queries.sample_id, queries.position, neighbour_words(x_ND, bank_MD, token_id_M), strict=True):
            where = {"layer": hook.layer, "sample_id": str(sample), "position": int(position - start[sample])}
            rows.append(where | {"token": text(word.token_id), "share": word.share, "cosine": word.cosine})
    return rows


def _token_ids(ctx: StageContext, part: TokenIndex) -> np.ndarray:
    table = ctx.table("token_rows").sort_by("row")
    return table["token_id"].to_numpy()[np.searchsorted(table["row"].to_numpy(), part.row)]


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
            known[context, language] = decision(
                loaded, boundary(loaded, prompt[language], template=ctx.cfg.model.chat_template), list(chosen.female), list(chosen.male)
            )
    found = [known[source.samples[sample_id]["context"], language] for sample_id, language in zip(part.sample_id, part.language, strict=True)]
    return [item.female_ids for item in found], [item.male_ids for item in found]


def _estimate(cfg: Config) -> Estimate:
    return Estimate(2**20, 900 * 2**20, 4 + 0.001 * cfg.data.n + 30 * cfg.mechanistic.tuned_lens)


MECHANISTIC_LENS = Stage(
    name="mechanistic.lens",
    run=run_lens,
    help="what each layer would say",
    needs=("prepare", "extract"),
    reads=("model", "mechanistic.bootstrap", "mechanistic.tuned_lens"),
    tables=TABLES,
    inputs=model_files,
    estimate=_estimate,
    version=2,
)
