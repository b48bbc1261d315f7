"""`prepare`: pictures and captions to samples with checked images, labelled captions and a three-way split by image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saebias.config.schema import Config
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.corpus_rows import Corpus
from saebias.stages.label_access import caption_label, label_sources, lexicon_files
from saebias.stages.outside_files import captioner_spec, table_pictures

if TYPE_CHECKING:
    from saebias.corpus.labels import Evidence
    from saebias.corpus.records import SampleRecord
    from saebias.store.parts import UnitWriter

TABLES = ("samples", "images", "captions", "sample_problems", "continuations", "reference_shares")


def run_prepare(ctx: StageContext) -> None:
    """Build the corpus (scenes of the demonstration, or the user's table), split it, label its captions and write its tables."""
    if ctx.cfg.data.source == "emoji":
        from saebias.stages.emoji_corpus import emoji_corpus as build
    else:
        from saebias.stages.table_corpus import table_corpus as build
    corpus = build(ctx)
    from saebias.corpus.export import write_samples_csv

    for _ in ctx.pending(["tables"]):
        samples = _split(ctx, corpus.samples)
        with ctx.unit("tables") as out:
            _write_tables(ctx, corpus, samples, out)
            out.keep([write_samples_csv(out.folder / "samples.csv", samples, corpus.image_paths)])


def _split(ctx: StageContext, samples: Sequence[SampleRecord]) -> list[SampleRecord]:
    from saebias.corpus.splits import assign_splits, check_splits, count_splits, thin_contexts

    shares = ctx.cfg.data.split.model_dump()
    split = assign_splits(samples, shares=shares, seed=ctx.seed("splits"))
    check_splits(split)
    for sentence in thin_contexts(count_splits(split, min_clusters=3)):
        ctx.reporter.warn(f"prepare: {sentence}")
    return split


def _write_tables(ctx: StageContext, corpus: Corpus, samples: Sequence[SampleRecord], out: UnitWriter) -> None:
    out.rows("samples", [_sample_row(sample, corpus.image_paths[sample.image_id]) for sample in samples])
    out.rows("images", corpus.images)
    out.rows("captions", caption_rows(ctx.cfg, corpus))
    out.rows("sample_problems", corpus.problems)
    out.rows("continuations", corpus.continuations)
    out.rows("reference_shares", corpus.reference_shares)
    counts = {split: sum(sample.split == split for sample in samples) for split in ("sae", "select", "report")}
    ctx.reporter.info(f"prepare: {len(samples):,} samples ({', '.join(f'{count:,} {split}' for split, count in counts.items())})", **counts)
    if corpus.problems:
        ctx.reporter.warn(f"prepare: {len(corpus.problems):,} rows were left out; `saebias query left_out` says why")


def _sample_row(sample: SampleRecord, path: str) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(sample), "image_path": path}


def caption_rows(cfg: Config, corpus: Corpus) -> list[dict[str, object]]:
    """One row per caption with its gender label and the evidence for it."""
    rows: list[dict[str, object]] = []
    for caption in corpus.captions:
        label = caption_label(cfg, caption.text, caption.language)
        rows.append(
            {
                "caption_id": caption.caption_id,
                "sample_id": corpus.sample_of_caption[caption.caption_id],
                "image_id": caption.image_id,
                "language": caption.language,
                "caption_index": caption.caption_index,
                "text": caption.text,
                "label": label.label,
                "explicit": label.explicit,
                "evidence": evidence_json(label.evidence),
            }
        )
    return rows


def evidence_json(evidence: Sequence[Evidence]) -> str:
    """The evidence of a label as JSON text: surface form, span, rule, gender, mention."""
    return json.dumps([item._asdict() for item in evidence], ensure_ascii=False)


def _inputs(cfg: Config) -> list[Path]:
    named = [cfg.data.table, cfg.data.continuations, cfg.data.reference_shares]
    return [path for path in named if path is not None] + captioner_spec(cfg) + lexicon_files(cfg) + label_sources()


def _estimate(cfg: Config) -> Estimate:
    # Measured on the demonstration: a 112-pixel PNG takes about 6 KiB and, with its drawing, 3 ms.
    if cfg.data.source == "emoji":
        return Estimate(cfg.data.n * 8 * 2**10, 300 * 2**20, 2 + cfg.data.n * 0.003)
    return Estimate(cfg.data.n * 2**10, 300 * 2**20 + cfg.data.n * 4 * 2**10, 2 + cfg.data.n * 0.001)


PREPARE = Stage(
    name="prepare",
    run=run_prepare,
    help="samples with checked pictures, labelled captions and splits",
    reads=("data", "labels"),
    tables=TABLES,
    inputs=_inputs,
    many_inputs=table_pictures,
    estimate=_estimate,
)
