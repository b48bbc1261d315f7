"""Gates: has a captioner learned its plant well enough that the plant may be called its truth?

Everything is exact: the probability of a closed-set continuation is the product of its next-token probabilities, and expectations over
captions are sums over the planted distribution, so that the only noise left is which pictures were drawn.

Legend: B scenes, C caption positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer, Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

from saebias.captioner.captions import caption_text, continuations
from saebias.captioner.packing import CaptionTable, caption_cross_entropy, caption_table, packed_layout, packed_logits, scene_indices
from saebias.captioner.scenes import PARTS, Scene, plan_scenes, render_pixels
from saebias.captioner.spec import CaptionerSpec
from saebias.captioner.tokenizer import build_tokenizer
from saebias.captioner.tower import pixel_values, pooled_features
from saebias.errors import InputError, ModelError
from saebias.identifiers import LANGUAGES

CLEAR_ACCURACY = (0.98, 1.0)
RMSE = (0.0, 0.07)
SLOPE = (0.85, 1.15)
EXCESS = (-1e-4, 0.01)
NULL_SPREAD = (0.0, 0.05)
BATCH = 64


@dataclass(frozen=True)
class GateRow:
    """One figure of one part and language; `low` and `high` are None where it is only reported."""

    name: str
    part: str
    language: str
    value: float
    low: float | None
    high: float | None
    n_images: int

    @property
    def passed(self) -> bool | None:
        """Whether the value lies within its bounds; None where it is only reported."""
        return None if self.low is None or self.high is None else bool(self.low <= self.value <= self.high)


@dataclass(frozen=True)
class SceneScores:
    """What a captioner says about each scene in one language: closed-set log-probabilities and, exactly averaged over the planted captions, its cross-entropy.

    All arrays are [B]; `log_N` is -inf in Arabic. `excess` is the cross-entropy of a whole caption, in nats, above the entropy of the plant;
    `tokens` is the expected caption length with <eos>.
    """

    log_F: np.ndarray
    log_M: np.ndarray
    log_N: np.ndarray
    excess: np.ndarray
    tokens: np.ndarray
    words_right: np.ndarray
    """Whether the true caption of a clear picture is the most probable word at every position."""

    def p(self) -> np.ndarray:
        """P(F | F or M) of each scene."""
        return 1 / (1 + np.exp(self.log_M - self.log_F))

    def neutral(self) -> np.ndarray:
        """P(N | F, M or N) of each scene."""
        return np.exp(self.log_N - np.logaddexp(np.logaddexp(self.log_F, self.log_M), self.log_N))


@dataclass(frozen=True)
class GateReport:
    """All gate figures of one captioner."""

    folder: str
    spec_name: str
    spec_digest: str
    seed: int
    gates: tuple[GateRow, ...]
    p_hat: tuple[tuple[str, str, float, float], ...]
    """(context, language, planted p, the captioner's mean p) on ambiguous pictures of the seen part."""

    @property
    def passed(self) -> bool:
        """Whether no gate failed."""
        return all(row.passed is not False for row in self.gates)

    def rows(self) -> list[dict[str, object]]:
        """One flat record per figure, for a table or a file."""
        return [{**vars(row), "passed": row.passed} for row in self.gates]


def check_gates(model_folder: str | Path, spec: CaptionerSpec, *, n_images: int = 1600, seed: int = 990_001) -> GateReport:
    """The figures of the captioner in `model_folder` against the plant of `spec`: `n_images` fresh scenes of the seen part, a quarter of that of each other.

    Raises InputError for a seed that training used, ModelError for a folder that is no captioner of this spec.
    """
    if spec.training.data_seed <= seed <= spec.training.data_seed + 10_000:
        raise InputError(f"gate seed {seed} lies in the range of the training seeds of {spec.name!r}; choose one outside {spec.training.data_seed} .. +10000")
    model, tokenizer = load_captioner(model_folder)
    if model.config.get_text_config().vocab_size != len(tokenizer) or len(tokenizer) != len(build_tokenizer(spec)):
        raise ModelError(f"the model in {model_folder} was not built from spec {spec.name!r}: their vocabularies differ; train it again")
    tables = {language: caption_table(spec, language, tokenizer) for language in LANGUAGES}
    rows: list[GateRow] = []
    p_hat: tuple[tuple[str, str, float, float], ...] = ()
    for part in PARTS:
        scenes = plan_scenes(spec, n_images if part == "seen" else n_images // 4, seed, part=part)
        scores = score_scenes(model, tokenizer, scenes, spec, tables)
        for language in LANGUAGES:
            rows += _part_rows(scenes, scores[language], spec, part, language)
            if part == "seen":
                p_hat += tuple((name, language, spec.context(name).p(language), value) for name, value in _context_means(scenes, scores[language]).items())
    return GateReport(str(model_folder), spec.name, spec.digest(), seed, tuple(rows), p_hat)


def load_captioner(folder: str | Path) -> tuple[Gemma3ForConditionalGeneration, PreTrainedTokenizerFast]:
    """Model (float32, evaluation mode) and tokenizer of a saved captioner; raises ModelError when `folder` holds none."""
    if not (Path(folder) / "config.json").is_file():
        raise ModelError(f"no captioner in {folder}: config.json is missing; train one with `python -m saebias.captioner train SPEC --out DIR`")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return model.eval(), tokenizer


@torch.inference_mode()
def score_scenes(
    model: Gemma3ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    scenes: list[Scene],
    spec: CaptionerSpec,
    tables: dict[str, CaptionTable],
) -> dict[str, SceneScores]:
    """The scores of every scene per language; `tables` are the caption tables of `spec`."""
    layout = packed_layout(spec, tokenizer, tables)
    lengths = _continuation_lengths(spec, tokenizer)
    batches: dict[str, list[SceneScores]] = {language: [] for language in LANGUAGES}
    for start in range(0, len(scenes), BATCH):
        batch = scenes[start : start + BATCH]
        pooled = pooled_features(model, pixel_values(render_pixels(batch, spec)))
        logits = {said: packed_logits(model, layout, pooled, _forced_ids(batch, said, spec, tokenizer, tables)) for said in ("F", "M", "N")}
        for language in LANGUAGES:
            by_gender = {said: logits[said][language] for said in ("F", "M", "N")}
            batches[language].append(_score_batch(batch, by_gender, tables[language], lengths, spec, tokenizer))
    return {language: _joined(parts) for language, parts in batches.items()}


def _joined(parts: list[SceneScores]) -> SceneScores:
    return SceneScores(**{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(SceneScores)})


def _forced_ids(
    batch: list[Scene], said: str, spec: CaptionerSpec, tokenizer: PreTrainedTokenizerFast, tables: dict[str, CaptionTable]
) -> dict[str, torch.Tensor]:
    ids = {}
    for language in LANGUAGES:
        gender = "M" if language == "ar" and said == "N" else said
        rows = [tokenizer.encode(" " + caption_text(spec.context(s.context), gender, s.object, language, spec), add_special_tokens=False) for s in batch]
        width = tables[language].ids.shape[1]
        ids[language] = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    return ids


def _continuation_lengths(spec: CaptionerSpec, tokenizer: PreTrainedTokenizerFast) -> dict[tuple[str, str, str], int]:
    # Of several beginnings the first is the one that captions have.
    return {(c.context, c.language, c.gender): len(tokenizer.encode(" " + c.text, add_special_tokens=False)) for c in reversed(continuations(spec))}


def _score_batch(
    batch: list[Scene],
    logits: dict[str, torch.Tensor],
    table: CaptionTable,
    lengths: dict[tuple[str, str, str], int],
    spec: CaptionerSpec,
    tokenizer: PreTrainedTokenizerFast,
) -> SceneScores:
    count = len(batch)
    log_p = {gender: np.full(count, -np.inf) for gender in ("F", "M", "N")}
    excess, tokens, right = np.zeros(count), np.zeros(count), np.zeros(count, dtype=bool)
    indices = scene_indices(batch, spec)
    for said, logits_BCV in logits.items():
        if said == "N" and table.language == "ar":
            continue
        ids_BC = torch.from_numpy(np.stack([_full_row(scene, said, table, spec, tokenizer) for scene in batch]))
        chosen_BC = torch.log_softmax(logits_BCV, dim=-1).gather(2, ids_BC[..., None])[..., 0]
        best_BC = logits_BCV.argmax(-1) == ids_BC
        for b, scene in enumerate(batch):
            log_p[said][b] = float(chosen_BC[b, : lengths[scene.context, table.language, said]].sum())
            if said == scene.gender:
                end = int((ids_BC[b] == tokenizer.eos_token_id).nonzero()[0, 0])
                right[b] = bool(best_BC[b, : end + 1].all())
        rows, shares = _rows_saying(said, ids_BC.numpy(), table, indices)
        cross_entropy, floor = caption_cross_entropy(logits_BCV, torch.from_numpy(table.target_ids[rows]), torch.from_numpy(table.target_shares[rows]))
        excess += shares * (cross_entropy - floor).sum(1).numpy()
        tokens += shares * (table.target_shares[rows].sum(-1) > 0).sum(1)
    return SceneScores(log_p["F"], log_p["M"], log_p["N"], excess, tokens, right)


def _full_row(scene: Scene, said: str, table: CaptionTable, spec: CaptionerSpec, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    ids = tokenizer.encode(" " + caption_text(spec.context(scene.context), said, scene.object, table.language, spec), add_special_tokens=False)
    width = table.ids.shape[1] + 1
    return np.array([*ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * (width - len(ids) - 1)])


def _rows_saying(said: str, ids_BC: np.ndarray, table: CaptionTable, indices_B3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # The planted caption of each scene that says this gender, found by its words; share 0 where the plant never says it.
    rows_BK, shares_BK = table.rows[tuple(indices_B3.T)], table.shares[tuple(indices_B3.T)]
    same_BK = (table.ids[rows_BK] == ids_BC[:, None, :-1]).all(-1) & (shares_BK > 0)
    return rows_BK[np.arange(len(rows_BK)), same_BK.argmax(1)], (shares_BK * same_BK).sum(1)


def _context_means(scenes: list[Scene], scores: SceneScores) -> dict[str, float]:
    return _means_of(scenes, scores.p())


def _means_of(scenes: list[Scene], values: np.ndarray) -> dict[str, float]:
    # Mean over the ambiguous scenes of each context.
    ambiguous, names = np.array([scene.gender == "A" for scene in scenes]), np.array([scene.context for scene in scenes])
    return {str(name): float(values[ambiguous & (names == name)].mean()) for name in np.unique(names[ambiguous])}


def _part_rows(scenes: list[Scene], scores: SceneScores, spec: CaptionerSpec, part: str, language: str) -> list[GateRow]:
    genders, gated = np.array([scene.gender for scene in scenes]), part == "seen"
    said = np.array(["F", "M", "N"])[np.stack([scores.log_F, scores.log_M, scores.log_N]).argmax(0)]
    clear = genders != "A"
    means = _context_means(scenes, scores)
    planted, measured = np.array([spec.context(name).p(language) for name in means]), np.array(list(means.values()))
    figures: list[tuple[str, float, tuple[float, float] | None]] = [
        ("clear accuracy", float((said == genders)[clear].mean()), CLEAR_ACCURACY),
        ("clear caption right", float(scores.words_right[clear].mean()), None),
        ("RMSE of p", float(np.sqrt(((measured - planted) ** 2).mean())), RMSE),
        ("spread of p", float(measured.std()), NULL_SPREAD if planted.std() == 0 else None),
        ("default D", float(0.5 - measured.mean()), None),
        ("excess nat/token", float(scores.excess.sum() / scores.tokens.sum()), EXCESS),
    ]
    if language == "en":
        neutral = [value - spec.context(name).neutral(language) for name, value in _means_of(scenes, scores.neutral()).items()]
        figures.append(("RMSE of neutral share", float(np.sqrt(np.mean(np.square(neutral)))), None))
    if planted.std() > 0:
        # Without planted differences between contexts there is nothing to regress on.
        figures.append(("slope of p", float(np.polyfit(planted, measured, 1)[0]), SLOPE))
    return [GateRow(name, part, language, value, *(bounds if gated and bounds else (None, None)), len(scenes)) for name, value, bounds in figures]
