"""`mechanistic --only factored`: how many directions dictionaries, attention heads and activations use, and what they say in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.config.schema import Config
from saebias.errors import ModelError
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.activation_source import Source, open_source
from saebias.stages.behavior_metrics import none_if_nan
from saebias.stages.dictionaries import main_dictionaries
from saebias.stages.model_access import model_files, open_model

if TYPE_CHECKING:
    from saebias.mechanistic.factored import FactoredMatrix, WideSide
    from saebias.vlm.loading import LoadedModel

Matrix = tuple["FactoredMatrix", dict[str, Any]]


def run_factored(ctx: StageContext) -> None:
    """Spectra and strongest directions of all matrices, layer by layer."""
    for name in ctx.pending(["factored"]):
        spectra, directions = factored_tables(ctx, open_source(ctx), open_model(ctx.cfg))
        with ctx.unit(name) as out:
            out.rows("factored_matrices", spectra)
            out.rows("singular_directions", directions)


def factored_tables(ctx: StageContext, source: Source, loaded: LoadedModel) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows of factored_matrices, rows of singular_directions)."""
    from threadpoolctl import threadpool_limits

    from saebias.mechanistic.circuits import direction_rows, spectrum_row, token_texts, unembedding
    from saebias.mechanistic.factored import wide_side

    to_words_DV, text = unembedding(loaded.adapter), token_texts(loaded.tokenizer.decode)
    spectra, directions = [], []
    # Many small factorisations: a second thread only waits.
    # Once for all layers: over a large vocabulary this is most of the work.
    words_side = wide_side(to_words_DV)
    with threadpool_limits(1), ctx.reporter.task("factoring", len(source.hooks), "layers") as task:
        for layer in sorted({hook.layer for hook in source.hooks}):
            for product, place in _matrices(ctx, source, loaded, to_words_DV, words_side, layer):
                spectra.append(
                    {name: none_if_nan(value) if isinstance(value, float) else value for name, value in asdict(spectrum_row(product, **place)).items()}
                )
                words = None if place["matrix"] == "dictionary to words" else to_words_DV
                directions += [asdict(row) for row in direction_rows(product, words, text, **place)]
            task.advance()
    for row in spectra:
        row["reason"] = row["reason"] or None
    return spectra, directions


def _matrices(ctx: StageContext, source: Source, loaded: LoadedModel, to_words_DV: np.ndarray, words_side: WideSide, layer: int) -> Iterator[Matrix]:
    """The matrices of one layer with their names."""
    from saebias.mechanistic.circuits import activation_matrix, head_circuits
    from saebias.mechanistic.factored import FactoredMatrix

    for dictionary in main_dictionaries(ctx):
        if dictionary.hook.layer == layer and dictionary.hook.site == "resid_post":
            w_dec_FD = dictionary.sae.W_dec_FD.detach().float().cpu().numpy()
            yield FactoredMatrix(w_dec_FD, to_words_DV, words_side), {"matrix": "dictionary to words", "layer": layer}
    try:
        heads = head_circuits(loaded.adapter, layer)
    except ModelError as error:
        ctx.reporter.warn(f"mechanistic.factored: {error}; left out")
        heads = []
    for number, head in enumerate(heads):
        yield head, {"matrix": "attention head", "layer": layer, "head": number}
    (hook,) = (hook for hook in source.hooks if hook.layer == layer)
    for language in ("en", "ar"):
        part = source.index.where(source.index.decision & (source.index.language == language))
        if len(part) >= 2:
            yield activation_matrix(source.array.read_rows(hook, part.row)), {"matrix": "activations", "layer": layer, "language": language}


def _estimate(cfg: Config) -> Estimate:
    return Estimate(2**18, 900 * 2**20, 4 + 0.001 * cfg.data.n)


MECHANISTIC_FACTORED = Stage(
    name="mechanistic.factored",
    run=run_factored,
    help="how many directions matrices use, and what they say",
    needs=("prepare", "extract", "train"),
    reads=("model", "train.seeds"),
    tables=("factored_matrices", "singular_directions"),
    inputs=model_files,
    estimate=_estimate,
)
