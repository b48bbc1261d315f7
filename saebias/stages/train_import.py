"""A dictionary of another library takes the place of a trained one: read, judged on this run's activations, and kept with an id of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saebias.errors import InputError
from saebias.pipeline.stage import StageContext

if TYPE_CHECKING:
    import torch

    from saebias.sae.module import SparseAutoencoder
    from saebias.sae.quality import SaeQuality
    from saebias.stages.train_pass import TrainData
    from saebias.stages.train_units import TrainUnit


def import_dictionary(ctx: StageContext, data: TrainData, unit: TrainUnit) -> None:
    """Keep the dictionary of `unit.folder` as the one of its hook point.

    Raises InputError when its width is not that of the activations, when a matrix of a square one is stored the other way round, or when it fails the quality
    gate on validation images (unless train.allow_failed_gate); StoreError for a missing or damaged file.
    """
    import torch

    from saebias.sae.formats import save_sae
    from saebias.sae.formats_foreign import load_foreign_sae

    assert unit.folder is not None
    sae, meta = load_foreign_sae(unit.folder)
    if sae.spec.d_model != data.array.d_model:
        raise InputError(
            f"{unit.folder} holds a dictionary of width {sae.spec.d_model}, the activations at {unit.hook} have {data.array.d_model}; "
            "import one trained on this model"
        )
    if meta["transposed"]:
        ctx.reporter.warn(f"{unit.folder}: the {meta['transposed']} matrix is stored the other way round than in {meta['library']}, as its shape shows; turned")
    quality = _judged(ctx, unit, sae.requires_grad_(False), torch.from_numpy(data.array.read_rows(unit.hook, data.validation)).float())
    sae_id, source = f"{ctx.run_id}/{unit.name}", f"{meta['library']}: {unit.folder}"
    with ctx.unit(unit.name) as out:
        folder = out.folder / unit.name
        out.keep(
            save_sae(folder, sae, meta={"sae_id": sae_id, "hook": unit.hook.name, "model": ctx.cfg.model.name, "role": unit.role, "imported_from": source})
        )
        row = _row(unit, sae, quality) | {"sae_id": sae_id, "imported_from": source, "path": str(folder.relative_to(ctx.folder))}
        out.rows("saes", [row])
        out.rows("sae_history", [])
    ctx.reporter.info(f"train {unit.name}: {source}, FVU {quality.fvu:.3f}, L0 {quality.l0:.1f}, dead {quality.dead_share:.0%} on validation images")


def _judged(ctx: StageContext, unit: TrainUnit, sae: SparseAutoencoder, x_ND: torch.Tensor) -> SaeQuality:
    from saebias.sae.formats_foreign import transposed_square
    from saebias.sae.quality import QualityLimits, quality_gate, sae_quality

    turned = transposed_square(sae, x_ND)
    if turned is not None:
        raise InputError(f"{unit.folder}: the activations at {unit.hook} are rebuilt only with the {turned} matrix transposed; write the folder again")
    quality = sae_quality(sae, x_ND)
    reasons = quality_gate(quality, QualityLimits(max_fvu=ctx.cfg.train.gate_fvu, max_dead_share=ctx.cfg.train.gate_dead))
    if reasons and (quality.fvu is None or not ctx.cfg.train.allow_failed_gate):
        raise InputError(
            f"{unit.folder} does not fit the activations at {unit.hook}: {'; '.join(reasons)}; check model and layer, or set train.allow_failed_gate=true"
        )
    for reason in reasons:
        ctx.reporter.warn(f"{unit.name} failed the quality gate and is used all the same: {reason}")
    return quality


def _row(unit: TrainUnit, sae: SparseAutoencoder, quality: SaeQuality) -> dict[str, Any]:
    unknown = ("seed", "steps", "kept_step", "train_rows", "outlier_rows", "learning_rate", "tokens_per_second", "seconds")
    return dict.fromkeys(unknown) | {
        "layer": unit.hook.layer,
        "site": unit.hook.site,
        "role": unit.role,
        "architecture": sae.spec.architecture,
        "d_model": sae.spec.d_model,
        "n_latents": sae.spec.n_latents,
        "k": sae.spec.k,
        "fvu": quality.fvu,
        "l0": quality.l0,
        "dead_share": quality.dead_share,
        "frozen_decoder": False,
    }
