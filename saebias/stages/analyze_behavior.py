"""`analyze --only behavior`: what the model does - its captions, its exact probabilities, and the bias in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saebias.config.schema import Config
from saebias.errors import InputError, NotEnoughData
from saebias.identifiers import LANGUAGES
from saebias.pipeline.stage import Estimate, Stage, StageContext
from saebias.stages.label_access import caption_label, label_sources, lexicon_files
from saebias.stages.model_access import ClosedSet, batches, closed_set_of, model_files, needs_pictures, refuse_text_only

if TYPE_CHECKING:
    from saebias.vlm.forward import PrefixState
    from saebias.vlm.images import ImageFeatures
    from saebias.vlm.inputs import ModelInputs
    from saebias.vlm.loading import LoadedModel

UNIT_SAMPLES = 256
TABLES = ("generated_captions", "exact_probabilities", "behavior_metrics")


def run_behavior(ctx: StageContext) -> None:
    """Caption and score the samples block by block, then compute the metrics over all of them; a model that reads text alone is left out and said."""
    try:
        refuse_text_only(ctx.cfg)
    except NotEnoughData as error:
        ctx.reporter.warn(f"analyze.behavior is left out: {error}", alarm=True)
        for name in ctx.claimed(ctx.pending(["left-out"])):
            with ctx.unit(name) as out:
                for table in TABLES:
                    out.rows(table, [])
        return
    _caption_and_measure(ctx)


def _caption_and_measure(ctx: StageContext) -> None:
    from saebias.stages.behavior_metrics import behavior_rows
    from saebias.stages.model_access import closed_sets, open_model, prompts, samples_of

    samples = samples_of(ctx)
    for index, sample in enumerate(samples):
        sample["number"] = index
    blocks = {f"captions-{number:04d}": block for number, block in enumerate(batches(samples, UNIT_SAMPLES))}
    pending = ctx.pending([*blocks, "metrics"])
    waiting = [name for name in pending if name in blocks]
    if waiting:
        loaded, prompt_of, sets = open_model(ctx.cfg), prompts(ctx.cfg), closed_sets(ctx)
        with ctx.reporter.task("captioning", sum(len(blocks[name]) for name in waiting), "images") as task:
            for name in ctx.claimed(waiting):
                captions, exact = [], []
                for batch in batches(blocks[name], ctx.cfg.runtime.batch_size):
                    some_captions, some_exact = _run_batch(ctx, loaded, batch, prompt_of, sets)
                    captions += some_captions
                    exact += some_exact
                    task.advance(len(batch))
                with ctx.unit(name) as out:
                    out.rows("generated_captions", captions)
                    out.rows("exact_probabilities", exact)
    for name in ctx.claimed([name for name in pending if name not in blocks]):
        rows = behavior_rows(ctx)
        with ctx.unit(name) as out:
            out.rows("behavior_metrics", rows)


def _run_batch(
    ctx: StageContext, loaded: LoadedModel, batch: Sequence[dict[str, Any]], prompt_of: dict[str, str], sets: dict[tuple[str, str], ClosedSet]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from saebias.stages.model_access import features_of, shared_prefix
    from saebias.vlm.inputs import build_inputs

    features = features_of(loaded, batch)
    captions, exact = [], []
    prefix: PrefixState | None = None
    run: list[int] = []
    for language in LANGUAGES:
        # A language that the corpus has no caption of is not asked for.
        rows = [row for row, sample in enumerate(batch) if sample[f"caption_{language}"] is not None]
        if not rows:
            continue
        asked = [batch[row] for row in rows]
        inputs = build_inputs(loaded, features.take(rows), [prompt_of[language]] * len(rows), use_chat_template=ctx.cfg.model.chat_template)
        # The picture is run once for everything that is asked about it: both languages, greedy captions, samples, scores.
        if prefix is None or run != rows:
            prefix, run = shared_prefix(loaded, inputs), rows
        else:
            prefix = prefix.take(range(len(rows)), inputs)
        work = Asked(loaded, asked, language, features.take(rows), inputs, prefix)
        captions += generate_rows(ctx, work)
        exact += exact_rows(ctx, work, sets)
    return captions, exact


@dataclass(frozen=True)
class Asked:
    """A batch of samples asked in one language, with the state behind their pictures."""

    loaded: LoadedModel
    samples: Sequence[dict[str, Any]]
    language: str
    features: ImageFeatures
    inputs: ModelInputs
    prefix: PrefixState | None

    def take(self, ctx: StageContext, rows: Sequence[int], row_ids: Sequence[int] | None = None) -> tuple[ModelInputs, PrefixState | None]:
        """Inputs and state of some of the samples; a row may be taken several times."""
        from saebias.stages.model_access import prompts
        from saebias.vlm.inputs import build_inputs

        texts = [prompts(ctx.cfg)[self.language]] * len(rows)
        inputs = build_inputs(self.loaded, self.features.take(rows), texts, use_chat_template=ctx.cfg.model.chat_template, row_ids=row_ids)
        return inputs, None if self.prefix is None else self.prefix.take(rows, inputs)


def generate_rows(ctx: StageContext, work: Asked) -> list[dict[str, Any]]:
    """Greedy captions of all images, and `analyze.draws` captions sampled at temperature 1 of those that show no gender."""
    from saebias.vlm.generate import decode_captions, generate_tokens

    longest = ctx.cfg.model.max_new_tokens
    greedy = decode_captions(work.loaded, generate_tokens(work.loaded, work.inputs, max_new_tokens=longest, prefix=work.prefix))
    rows = [_caption_row(ctx, sample, work.language, "greedy", 0, text) for sample, text in zip(work.samples, greedy, strict=True)]
    open_rows = [row for row, sample in enumerate(work.samples) if sample["visual_gender"] in ("A", None)]
    if open_rows:
        draws = ctx.cfg.analyze.draws
        repeated = [row for row in open_rows for _ in range(draws)]
        numbers = [work.samples[row]["number"] * draws + draw for row in open_rows for draw in range(draws)]
        inputs, prefix = work.take(ctx, repeated, numbers)
        tokens = generate_tokens(work.loaded, inputs, max_new_tokens=longest, mode="sample", seed=ctx.seed(f"samples-{work.language}"), prefix=prefix)
        texts = decode_captions(work.loaded, tokens)
        rows += [
            _caption_row(ctx, work.samples[row], work.language, "sample", number % draws, text)
            for row, number, text in zip(repeated, numbers, texts, strict=True)
        ]
    return rows


def _caption_row(ctx: StageContext, sample: dict[str, Any], language: str, mode: str, draw: int, text: str) -> dict[str, Any]:
    from saebias.stages.prepare import evidence_json

    label = caption_label(ctx.cfg, text, language)
    evidence = evidence_json(label.evidence)
    return {
        "sample_id": sample["sample_id"],
        "language": language,
        "mode": mode,
        "draw": draw,
        "text": text,
        "label": label.label,
        "explicit": label.explicit,
        "evidence": evidence,
        "n_words": label.words,
    }


def exact_rows(ctx: StageContext, work: Asked, sets: dict[tuple[str, str], ClosedSet]) -> list[dict[str, Any]]:
    """The exact probabilities of the closed set, for the samples that have one; raises InputError when F and M have no probability at all."""
    from saebias.vlm.scoring import score_continuations

    served = [(row, chosen) for row, sample in enumerate(work.samples) if (chosen := closed_set_of(sets, sample["context"], work.language)) is not None]
    if not served:
        return []
    inputs, prefix = work.take(ctx, [row for row, _ in served])
    scores = score_continuations(work.loaded, inputs, [chosen.all for _, chosen in served], prefix=prefix)
    return [exact_row(work.samples[row]["sample_id"], work.language, chosen, logp) for (row, chosen), logp in zip(served, scores, strict=True)]


def exact_row(sample_id: str, language: str, chosen: ClosedSet, logp_C: np.ndarray) -> dict[str, Any]:
    """One row of exact_probabilities from the log-probabilities of F, M and N continuations (nats), computed on the log scale."""
    from scipy.special import logsumexp

    n_female, n_male = len(chosen.female), len(chosen.male)
    log_f, log_m = logsumexp(logp_C[:n_female]), logsumexp(logp_C[n_female : n_female + n_male])
    log_n = logsumexp(logp_C[n_female + n_male :]) if chosen.neutral else None
    log_said = np.logaddexp(log_f, log_m)
    log_all = log_said if log_n is None else np.logaddexp(log_said, log_n)
    if not np.isfinite(log_said):
        raise InputError(f"sample {sample_id} ({language}): the model gives neither F nor M any probability; check the continuations against its captions")
    return {
        "sample_id": sample_id,
        "language": language,
        "p_female": float(np.exp(log_f - log_said)),
        "p_male": float(np.exp(log_m - log_said)),
        "p_neutral": None if log_n is None else float(np.exp(log_n - log_all)),
        "coverage": float(np.exp(log_all)),
        "gap": float(log_f - log_m),
    }


def _estimate(cfg: Config) -> Estimate:
    # Measured on the demonstration with two cores: 12 ms an image for greedy captions and scoring in both languages, 1 ms a sampled caption.
    return Estimate(cfg.data.n * 2 * 2**10, 800 * 2**20, 8 + cfg.data.n * (0.012 + 0.001 * 2 * cfg.analyze.draws * cfg.data.ambiguous_share))


ANALYZE_BEHAVIOR = Stage(
    name="analyze.behavior",
    run=run_behavior,
    help="what the model does: captions, exact probabilities, bias",
    needs=("prepare",),
    reads=("model", "labels", "analyze.draws", "analyze.min_coverage", "analyze.bootstrap"),
    tables=TABLES,
    version=2,
    unfit=needs_pictures,
    inputs=lambda cfg: [*model_files(cfg), *lexicon_files(cfg), *label_sources()],
    estimate=_estimate,
    parallel=True,
)
