"""Whether the dictionaries can be trusted: quality on unseen images and the gate, what the model loses by them, and which latents another seed finds again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import NotEnoughData
from saebias.identifiers import LANGUAGES
from saebias.pipeline.stage import StageContext
from saebias.stages.behavior_metrics import none_if_nan

if TYPE_CHECKING:
    from saebias.sae.quality import SaeQuality
    from saebias.stages.dictionaries import Dictionary
    from saebias.stages.token_index import TokenIndex
    from saebias.store.arrays import ActivationArray

# Legend: N rows, D model dimension, F latents.

QUALITY_ROWS = 1024
"""Rows per token kind, language and split that quality is measured on."""
GATE_ROWS = 4096
NULL_PAIRS = 500


def check_dictionaries(ctx: StageContext, array: ActivationArray, index: TokenIndex, samples: dict[str, dict[str, Any]]) -> None:
    """Measure what was not measured yet; raises InputError when a dictionary that is to be analysed fails the gate."""
    from saebias.stages.dictionaries import dictionaries_of_role, refuse_bad_dictionaries
    from saebias.stages.dictionary_loss import cross_entropy_rows
    from saebias.stages.train_units import ROLES

    for name in ctx.pending(["quality"]):
        rows, density, reasons = quality_rows(ctx, dictionaries_of_role(ctx, ROLES), array, index)
        refuse_bad_dictionaries(ctx, reasons)
        with ctx.unit(name) as out:
            out.rows("sae_quality", rows)
            out.rows("sae_density", density)
    for name in ctx.pending(["cross-entropy"]):
        rows = []
        try:
            rows = cross_entropy_rows(ctx, dictionaries_of_role(ctx, ("main", "control")), array, index, samples)
        except NotEnoughData as error:
            ctx.reporter.warn(f"{name} is left out: {error}", alarm=True)
        with ctx.unit(name) as out:
            out.rows("sae_cross_entropy", rows)
    for name in ctx.pending(["stability"]):
        pairs, matches = stability_rows(ctx, dictionaries_of_role(ctx, ("main", "seed", "control")), array, index)
        with ctx.unit(name) as out:
            out.rows("sae_stability", pairs)
            out.rows("latent_matches", matches)


def quality_rows(
    ctx: StageContext, dictionaries: Sequence[Dictionary], array: ActivationArray, index: TokenIndex
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, list[str]]]:
    """Quality of every dictionary on images never trained on (main and control per token kind, language and split), densities, reasons to refuse a main one."""
    import torch

    from saebias.sae.quality import QualityAccumulator, QualityLimits, density_histogram, quality_gate, sae_quality
    from saebias.stages.token_index import unseen_rows

    limits = QualityLimits(max_fvu=ctx.cfg.train.gate_fvu, max_dead_share=ctx.cfg.train.gate_dead)
    cells, pooled = _quality_cells(ctx, unseen_rows(array, index)), held_out_rows(ctx, array, index)
    rows, density, reasons = [], [], {}
    wanted = np.unique(np.concatenate([pooled, *cells.values()]))
    with ctx.reporter.task("measuring dictionaries", len(dictionaries), "dictionaries") as task:
        for dictionary in dictionaries:
            # One pass over the array serves all cells.
            x_ND = torch.from_numpy(array.read_rows(dictionary.hook, wanted))
            accumulator = QualityAccumulator(dictionary.sae)
            accumulator.add(x_ND[torch.from_numpy(np.searchsorted(wanted, pooled))])
            quality = accumulator.result()
            if dictionary.role == "main":
                reasons[dictionary.sae_id] = quality_gate(quality, limits)
            rows.append(_quality_row(dictionary, ("all", "both", "select+report"), quality))
            place = {"sae_id": dictionary.sae_id, "layer": dictionary.hook.layer}
            density += [place | {"low": b.low, "high": b.high, "n_latents": b.n_latents} for b in density_histogram(accumulator.density_F())]
            # Other seeds and sizes are compared as wholes.
            for cell, cell_rows in cells.items() if dictionary.role in ("main", "control") else ():
                rows.append(_quality_row(dictionary, cell, sae_quality(dictionary.sae, x_ND[torch.from_numpy(np.searchsorted(wanted, cell_rows))])))
            task.advance()
    return rows, density, reasons


def held_out_rows(ctx: StageContext, array: ActivationArray, index: TokenIndex) -> np.ndarray:
    """Activation rows of images never trained on, evenly over token kinds and languages, sorted; see `unseen_rows`."""
    from saebias.stages.token_index import balanced_rows, unseen_rows

    held_out = unseen_rows(array, index)
    return held_out.row[balanced_rows(held_out, GATE_ROWS, ctx.seed("gate"))]


def _quality_cells(ctx: StageContext, index: TokenIndex) -> dict[tuple[str, str, str], np.ndarray]:
    rng = np.random.default_rng(ctx.seed("quality"))
    cells = {}
    for kind in ("image", "prompt", "caption", "decision"):
        of_kind = index.decision if kind == "decision" else index.token_kind == kind
        for language in LANGUAGES:
            for split in ("select", "report"):
                found = index.row[of_kind & (index.language == language) & (index.split == split)]
                if len(found):
                    cells[kind, language, split] = np.sort(rng.choice(found, size=min(QUALITY_ROWS, len(found)), replace=False))
    return cells


def _quality_row(dictionary: Dictionary, cell: tuple[str, str, str], quality: SaeQuality) -> dict[str, Any]:
    return {
        "sae_id": dictionary.sae_id,
        "layer": dictionary.hook.layer,
        "token_kind": cell[0],
        "language": cell[1],
        "split": cell[2],
        "fvu": quality.fvu,
        "l0": quality.l0,
        "dead_share": quality.dead_share,
        "density_median": quality.density_p50,
        "density_high": quality.density_p95,
        "decoder_cosine": quality.encoder_decoder_cosine,
        "nearest_cosine": quality.nearest_decoder_cosine,
        "n_rows": quality.n_rows,
        "note": None if quality.fvu is not None else "the rows do not vary",
    }


def stability_rows(
    ctx: StageContext, dictionaries: Sequence[Dictionary], array: ActivationArray, index: TokenIndex
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Each main dictionary matched one to one with its siblings of other seeds, and with the frozen control as a null: per pair, and per latent."""
    import torch

    rows = held_out_rows(ctx, array, index)
    pairs, matches = [], []
    for main in (d for d in dictionaries if d.role == "main"):
        siblings = [d for d in dictionaries if d.hook == main.hook and d.role != "main"]
        if siblings:
            x_ND = torch.from_numpy(array.read_rows(main.hook, rows))
            for sibling in siblings:
                found_pair, found_matches = _match(ctx, main, sibling, x_ND)
                pairs.append(found_pair)
                matches += found_matches
    return pairs, matches


def _match(ctx: StageContext, main: Dictionary, sibling: Dictionary, x_ND: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from saebias.sae.stability import live_latents, match_dictionaries

    first, second = (live_latents(d.sae_id, d.sae.W_dec_FD.numpy(), d.sae.encode(x_ND).numpy()) for d in (main, sibling))
    # Pairs of chance enough for the smallest p to lie well below the level at which a latent counts as stable.
    n_null = -(-NULL_PAIRS // min(len(first.latents), len(second.latents)))
    matching = match_dictionaries(first.dictionary, second.dictionary, seed=ctx.seed(f"match-{sibling.sae_id.rpartition('/')[2]}"), n_null=n_null)
    assert matching.correlation_M is not None
    stable_M, p_M = matching.stable_M(), matching.p_value_M()
    place = {"sae_id": main.sae_id, "other_sae_id": sibling.sae_id, "layer": main.hook.layer}
    pair = place | {
        "other_role": sibling.role,
        "n_latents": main.sae.spec.n_latents,
        "n_live": len(first.latents),
        "n_matched": len(stable_M),
        "n_stable": int(stable_M.sum()),
        "stable_share": float(stable_M.sum() / len(first.latents)),
        "mean_cosine": float(matching.cosine_M.mean()),
        "mean_correlation": float(np.nanmean(matching.correlation_M)),
        "null_cosine": float(matching.null_cosine.mean()),
        "null_cosine_high": float(np.quantile(matching.null_cosine, 0.99)),
        "n_rows": len(x_ND),
    }
    latents_M, others_M = first.latents[matching.first_M], second.latents[matching.second_M]
    columns = (latents_M, others_M, matching.cosine_M, matching.correlation_M, p_M, stable_M)
    return pair, [
        place | {"latent": latent, "other_latent": other, "cosine": cosine, "correlation": none_if_nan(correlation), "p": p, "stable": stable}
        for latent, other, cosine, correlation, p, stable in zip(*(column.tolist() for column in columns), strict=True)
    ]
