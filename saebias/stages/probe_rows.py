"""Probes of visible gender as table rows: which rows of which tokens they read, and their controls."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.errors import NotEnoughData
from saebias.identifiers import LANGUAGES
from saebias.pipeline.stage import StageContext
from saebias.stages.activation_source import Source, nan_to_null
from saebias.stages.model_access import closed_set_of, closed_sets, prompts

if TYPE_CHECKING:
    from saebias.identifiers import HookPoint
    from saebias.mechanistic.probes import ProbePlace, ProbeRow, ProbeRows, TransformerProbeAnalyzer
    from saebias.stages.token_index import TokenIndex

BLOCK_ROWS = 65_536
"""Rows of one layer in memory at a time."""


def probe_rows(ctx: StageContext, source: Source) -> list[dict[str, Any]]:
    """One row per probe and baseline, within each language."""
    from threadpoolctl import threadpool_limits

    from saebias.mechanistic.probes import ProbePlace, TransformerProbeAnalyzer

    analyzer = TransformerProbeAnalyzer(n_folds=ctx.cfg.mechanistic.folds, n_permutations=min(ctx.cfg.mechanistic.permutations, 99))
    parts, rows = _parts(source), []
    if not any(row["visual_gender"] in ("F", "M") for row in source.samples.values()):
        raise NotEnoughData("mechanistic: no image shows a woman or a man, so a probe of gender has nothing to learn; see data.columns.visual_gender")
    # Thousands of small factorisations: a second thread only waits.
    with threadpool_limits(1), ctx.reporter.task("probing", len(source.hooks) + 1, "layers") as task:
        for hook in source.hooks:
            pooled = _pooled(source, hook, parts)
            places = {
                ProbePlace(language, kind, hook.layer): _probe_rows(source, *pooled[language, kind], kind, part) for (language, kind), part in parts.items()
            }
            # What carries over from one language to the other is told once, by `mechanistic --only alignment`, over several foldings.
            rows += _read_once(analyzer, places, ctx.seed("probes"))
            task.advance()
        pixels: ProbeRows = _pixel_rows(source)
        rows += analyzer.read({ProbePlace("en", "image", None, "pixels"): pixels}, seed=ctx.seed("probes"))
        worded = {
            ProbePlace(language, "decision", None, "bag_of_words"): data for language in LANGUAGES if (data := _word_rows(ctx, source, language)) is not None
        }
        rows += analyzer.read(worded, seed=ctx.seed("probes"), transfer=False)
        task.advance()
    return [nan_to_null(asdict(row)) for row in rows]


def _read_once(analyzer: TransformerProbeAnalyzer, places: dict[ProbePlace, ProbeRows], seed: int) -> list[ProbeRow]:
    """One row per place; where both languages read the very same activations (a picture's tokens, before any text), the probe is fitted once."""
    twins = {}
    for place, data in places.items():
        other = replace(place, language="en")
        if place.language == "ar" and other in places and np.array_equal(data.x_ND, places[other].x_ND) and np.array_equal(data.image_N, places[other].image_N):
            twins[place] = other
    read = dict(
        zip([p for p in places if p not in twins], analyzer.read({p: d for p, d in places.items() if p not in twins}, seed=seed, transfer=False), strict=True)
    )
    return [read[place] if place in read else replace(read[twins[place]], train_language="ar", test_language="ar") for place in places]


def _kind_mask(source: Source, language: str, kind: str) -> np.ndarray:
    of_kind = source.index.decision if kind == "decision" else source.index.token_kind == kind
    return of_kind & (source.index.language == language) & np.isin(source.row_gender, ("F", "M"))


def _parts(source: Source) -> dict[tuple[str, str], TokenIndex]:
    """The rows of every (language, kind of token) that occurs on images of women and men."""
    found = {(language, kind): source.index.where(_kind_mask(source, language, kind)) for kind in ("decision", "image", "prompt") for language in LANGUAGES}
    return {key: part for key, part in found.items() if len(part)}


def _pooled(source: Source, hook: HookPoint, parts: dict[tuple[str, str], TokenIndex]) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Per part the mean of each image's tokens [N, D] and the sample ids; the layer is read once, block by block."""
    from saebias.mechanistic.probes import pool_tokens

    ids = {key: np.unique(part.sample_id.astype(str), return_inverse=True) for key, part in parts.items()}
    sums = {key: np.zeros((len(names), source.array.d_model)) for key, (names, _) in ids.items()}
    for start in range(0, source.array.n_rows, BLOCK_ROWS):
        x_ND = source.array.read(hook, start, start + BLOCK_ROWS)
        for key, part in parts.items():
            first, last = np.searchsorted(part.row, (start, start + BLOCK_ROWS))
            if first < last:
                of_block = ids[key][1][first:last]
                means, seen = pool_tokens(x_ND[part.row[first:last] - start], of_block)
                sums[key][seen] += means * np.bincount(of_block)[seen, None]
    return {key: (sums[key] / np.bincount(index)[:, None], names) for key, (names, index) in ids.items()}


def _probe_rows(source: Source, pooled_ND: np.ndarray, sample_ids: np.ndarray, kind: str, part: TokenIndex) -> ProbeRows:
    """The tokens of one kind, averaged within an image (a probe's reading; dictionaries never see an average)."""
    from saebias.mechanistic.probes import ProbeRows

    return ProbeRows(
        x_ND=pooled_ND,
        is_female_N=source.gender(sample_ids) == "F",
        image_N=sample_ids,
        cluster_N=source.column(sample_ids, "cluster_id"),
        context_N=source.types(sample_ids),
        # Image and prompt tokens stand before the caption, and the decision row is the decision itself.
        offset_N=np.zeros(len(sample_ids), dtype=int) if kind == "decision" else np.full(len(sample_ids), -1),
        caption_in_prompt=bool(part.reads_caption.any()),
    )


def _word_rows(ctx: StageContext, source: Source, language: str) -> ProbeRows | None:
    """The words that stand before the decision: the prompt, and the beginning that the context's F and M continuations share; None without decisions."""
    from os.path import commonprefix

    from saebias.mechanistic.probes import ProbeRows, words_of

    part = source.index.where(_kind_mask(source, language, "decision"))
    if len(part) == 0:
        return None
    sets, prompt = closed_sets(ctx), prompts(ctx.cfg)[language]
    sample_ids = np.unique(part.sample_id.astype(str))
    chosen = [closed_set_of(sets, source.samples[sample_id]["context"], language) for sample_id in sample_ids]
    # The beginning may end inside a word: Arabic says the gender by an ending.
    texts = [f"{prompt} {commonprefix([*each.female, *each.male]) if each is not None else ''}" for each in chosen]  # noqa: RUF071
    columns = source.gender(sample_ids) == "F", sample_ids, source.column(sample_ids, "cluster_id"), source.types(sample_ids)
    return ProbeRows(words_of(texts), *columns)


def _pixel_rows(source: Source) -> ProbeRows:
    from saebias.mechanistic.probes import ProbeRows
    from saebias.stages.model_access import open_picture

    labelled = sorted(sample_id for sample_id, row in source.samples.items() if row["visual_gender"] in ("F", "M"))
    opened = ((sample_id, open_picture(source.samples[sample_id]["image_path"])) for sample_id in labelled)
    # One that cannot be opened has no activations either; extract says so of it.
    pixels = {name: np.asarray(picture.resize((16, 16)), dtype=np.float32).ravel() / 255 for name, picture in opened if not isinstance(picture, str)}
    sample_ids = np.array(list(pixels))
    columns = source.gender(sample_ids) == "F", sample_ids, source.column(sample_ids, "cluster_id"), source.types(sample_ids)
    return ProbeRows(np.stack(list(pixels.values())), *columns)
