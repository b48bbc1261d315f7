"""The sums of a scored file, read back from its parts: shares and rates, corrected prevalence, outcomes against a reference, differences."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saebias.corpus.label_tally import COLUMNS, FormCount, RateRow, Tallier, Tally, compare, corrected_share, rate, summary_rows
from saebias.corpus.labels import CaptionLabel, Evidence
from saebias.corpus.prevalence import measured_quality
from saebias.errors import InputError
from saebias.identifiers import LANGUAGES
from saebias.pipeline.stage import StageContext
from saebias.store.parts import part_paths

MAX_CONTEXTS = 1_000
CONTEXT_MEASURES = ("share F", "share M", "share N", "share M explicit", "F of F or M")
OUTCOMES = ("F", "M", "M explicit", "neither", "both")


class CaptionSums:
    """Sums of captions per picture. Where every caption is a picture of its own, equal sums are kept once, with how often they came."""

    def __init__(self, alone: bool) -> None:
        self._alone = alone
        self._tallier = Tallier()
        self._distinct: Counter[tuple[int, ...]] = Counter()
        self._forms: Counter[tuple[str, str, str, bool]] = Counter()

    def add(self, image_id: str, text: str, label: CaptionLabel) -> None:
        """Count one labelled caption."""
        self._tallier.add(image_id, text, label)

    def fold(self) -> None:
        """Bring what was counted so far into little space; call it after each part."""
        if self._alone:
            tally = self._tallier.tally()
            distinct_KC, times_K = np.unique(tally.counts_GK, axis=0, return_counts=True)
            for sums, times in zip(distinct_KC.tolist(), times_K.tolist(), strict=True):
                self._distinct[tuple(sums)] += times
            self._forms.update({(form.form, form.gender, form.rule, form.counted): form.captions for form in tally.forms})
            self._tallier = Tallier()

    def tally(self) -> Tally:
        """The sums per picture; of captions that stand alone the pictures have no names."""
        if not self._alone:
            return self._tallier.tally()
        self.fold()
        distinct_KC = np.array(list(self._distinct), dtype=np.int64).reshape(-1, len(COLUMNS))
        counts_GC = np.repeat(distinct_KC, list(self._distinct.values()), axis=0)
        forms = tuple(FormCount(form, gender, rule, counted, n) for (form, gender, rule, counted), n in self._forms.most_common())
        return Tally(("",) * len(counts_GC), counts_GC, ("",) * len(counts_GC), forms)


class OutcomeSums:
    """What captions say about pictures whose reference says one gender: per picture, captions and how many of each outcome."""

    def __init__(self, alone: bool) -> None:
        self._alone = alone
        self._pictures: dict[str, list[int]] = {}
        self._distinct: Counter[tuple[int, ...]] = Counter()

    def add(self, image_id: str, label: CaptionLabel) -> None:
        """Count one caption."""
        said = {"F": ("F",), "M": ("M", "M explicit") if label.explicit else ("M",), "X": ("both",)}.get(label.label, ("neither",))
        counts = (1, *(int(name in said) for name in OUTCOMES))
        if self._alone:
            self._distinct[counts] += 1
        else:
            self._pictures[image_id] = [a + b for a, b in zip(self._pictures.get(image_id, [0] * len(counts)), counts, strict=True)]

    def counts(self) -> NDArray[np.int64]:
        """[picture, captions and outcomes]."""
        rows, times = (list(self._distinct), list(self._distinct.values())) if self._alone else (list(self._pictures.values()), 1)
        return np.repeat(np.array(rows, dtype=np.int64).reshape(-1, 1 + len(OUTCOMES)), times, axis=0)


@dataclass
class Side:
    """What is summed over one file."""

    alone: bool
    sums: dict[tuple[str, str | None], CaptionSums] = field(default_factory=dict)
    """Per language, and per language and context."""
    outcomes: dict[tuple[str, str], OutcomeSums] = field(default_factory=dict)
    """Per language and gender that the reference says."""
    rows: int = 0
    set_aside: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def languages(self) -> list[str]:
        """Languages that captions were labelled in."""
        return [language for language in LANGUAGES if (language, None) in self.sums]

    def add(self, row: dict[str, Any]) -> None:
        """Count one row of `scored_captions`."""
        self.rows += 1
        if row["problem"] is not None:
            self.set_aside += 1
            if len(self.examples) < 3:
                self.examples.append(f"row {row['row_number']}: {row['problem']}")
            return
        label = _label(row)
        contexts = {None, row["context"]} if len(self.sums) <= MAX_CONTEXTS else {None}
        for context in contexts:
            self.sums.setdefault((row["language"], context), CaptionSums(self.alone)).add(row["image_id"], row["text"], label)
        if row["reference_label"] in ("F", "M"):
            key = (row["language"], row["reference_label"])
            self.outcomes.setdefault(key, OutcomeSums(self.alone)).add(row["image_id"], label)

    def fold(self) -> None:
        """Called after each part."""
        for sums in self.sums.values():
            sums.fold()


def _label(row: dict[str, Any]) -> CaptionLabel:
    return CaptionLabel(row["label"], row["explicit"], row["ambiguous"], _marks(row["evidence"]), _marks(row["rejected"]), row["n_words"])


def _marks(text: str) -> tuple[Evidence, ...]:
    # The fields were written in their order.
    return () if text == "[]" else tuple(Evidence(*item.values()) for item in json.loads(text))


def _parts(folder: Path, side: str) -> Iterator[list[dict[str, Any]]]:
    names = [*("row_number", "language", "image_id", "context", "text", "label", "explicit", "ambiguous"), "evidence", "rejected", "n_words", "reference_label"]
    for path in part_paths(folder, "scored_captions"):
        if path.name.startswith(f"{side}-"):
            yield pq.read_table(path, columns=[*names, "problem"]).to_pylist()


def summarise(ctx: StageContext, files: dict[str, Path]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows of score_summary, rows of score_forms) over all parts of the run; raises InputError where no caption could be labelled."""
    seed = ctx.seed("summary")
    rows: list[dict[str, Any]] = []
    forms: list[dict[str, Any]] = []
    tallies: dict[str, dict[str, Tally]] = {}
    alone = ctx.cfg.score.columns.image_id is None and len(files) == 1
    for side, path in files.items():
        summed = _sum_up(ctx, side, path, alone)
        tallies[side] = {language: summed.sums[language, None].tally() for language in summed.languages}
        rows += [{"side": side, **row} for row in _side_rows(summed, tallies[side], seed)]
        forms += [{"side": side, "language": language, **asdict(form)} for language, tally in tallies[side].items() for form in tally.forms]
    if "compare" in tallies:
        rows += [{"side": "difference", **row} for row in _difference_rows(tallies["file"], tallies["compare"], seed)]
    return [{"place": place, **row} for place, row in enumerate(rows)], forms


def _sum_up(ctx: StageContext, side: str, path: Path, alone: bool) -> Side:
    summed = Side(alone)
    with ctx.reporter.task(f"summing up {path.name}", len(part_paths(ctx.folder, "scored_captions")), "parts") as task:
        for part in _parts(ctx.folder, side):
            for row in part:
                summed.add(row)
            summed.fold()
            task.advance()
    reasons = "; ".join(summed.examples)
    if summed.set_aside == summed.rows:
        raise InputError(f"{path}: none of its {summed.rows:,} rows can be labelled ({reasons}); correct the language or the columns")
    if summed.set_aside:
        ctx.reporter.warn(f"{path.name}: {summed.set_aside:,} of {summed.rows:,} rows were set aside ({reasons}); `saebias query score_left_out` lists them")
    if len(summed.sums) > MAX_CONTEXTS:
        ctx.reporter.warn(f"{path.name}: more than {MAX_CONTEXTS:,} contexts; the summary gives none of them")
        summed.sums = {key: sums for key, sums in summed.sums.items() if key[1] is None}
    return summed


def _side_rows(summed: Side, tallies: dict[str, Tally], seed: int) -> Iterator[dict[str, Any]]:
    aside = RateRow("rows set aside", summed.set_aside, summed.rows, summed.set_aside / summed.rows, math.nan, math.nan)
    yield _row(None, None, aside, note="see scored_captions.problem" if summed.set_aside else None)
    for language, tally in tallies.items():
        yield from (_row(language, None, row) for row in summary_rows(tally, seed))
        yield from (_corrected_row(tally, language, label, seed) for label in ("F", "M"))
        for reference in ("F", "M"):
            if (language, reference) in summed.outcomes:
                yield from _outcome_rows(summed.outcomes[language, reference].counts(), language, reference, seed)
    for language, context in sorted((key for key in summed.sums if key[1] is not None), key=lambda key: (key[1], key[0] != "en")):
        found = summary_rows(summed.sums[language, context].tally(), seed)
        yield from (_row(language, context, row) for row in found if row.measure in CONTEXT_MEASURES)


def _row(language: str | None, context: str | None, row: RateRow, note: str | None = None) -> dict[str, Any]:
    known = {name: None if math.isnan(value) else value for name, value in (("value", row.value), ("low", row.low), ("high", row.high))}
    reason = "nothing to divide by" if known["value"] is None else note
    return {"language": language, "context": context, "measure": row.measure, "hits": row.hits, "total": row.of, **known, "note": reason}


def _corrected_row(tally: Tally, language: str, label: str, seed: int) -> dict[str, Any]:
    """The share that truly carries the label (Rogan & Gladen), with the error rates it was corrected for."""
    found = corrected_share(tally, label, measured_quality(language, label), seed)
    rates = f"sensitivity {found.sensitivity:.3f}, specificity {found.specificity:.3f} on MT-GenEval sentences nobody tuned on"
    hits, total = int(tally.column(label).sum()), int(tally.column("captions").sum())
    row = _row(language, None, RateRow(f"share {label}, corrected", hits, total, found.corrected, found.low, found.high))
    return row | {"note": f"{found.reason}; {rates}" if found.reason else rates}


def _outcome_rows(counts_GC: NDArray[np.int64], language: str, reference: str, seed: int) -> Iterator[dict[str, Any]]:
    """What captions say where the reference says F (or M)."""
    for column, name in enumerate(OUTCOMES, start=1):
        yield _row(language, None, rate(f"says {name} where the reference says {reference}", counts_GC[:, column], counts_GC[:, 0], seed))


def _difference_rows(before: dict[str, Tally], after: dict[str, Tally], seed: int) -> Iterator[dict[str, Any]]:
    for language in LANGUAGES:
        if (language in before) != (language in after):
            yield _alarm(language, f"only the {'first' if language in before else 'second'} file has captions in this language")
        if language not in before or language not in after:
            continue
        found = compare(before[language], after[language], seed)
        yield from (_row(language, None, row) for row in found.rows)
        yield from (_alarm(language, text) for text in found.alarms)
        for n, which in ((found.only_before, "first"), (found.only_after, "second")):
            if n:
                yield _alarm(language, f"{n:,} pictures are in the {which} file only: the differences leave them out")


def _alarm(language: str, text: str) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(("context", "hits", "total", "value", "low", "high"))
    return nothing | {"language": language, "measure": "alarm", "note": text}
