"""How good the labels are, measured on public data with known gender: one row per data set, language, gender and measure."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from saebias.corpus.arabic import normal
from saebias.corpus.label_lexicon import words_of
from saebias.corpus.labels import CaptionLabel, label_caption
from saebias.errors import InputError

_Z_95 = 1.959963984540054
_SPAN = re.compile(r"<[FM]>(.*?)</[FM]>", re.DOTALL)
_TAG = re.compile(r"</?[FM]>")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class BenchmarkRow:
    """One measured share with its 95 % Wilson interval."""

    dataset: str
    language: str
    gender: str
    """F, M, N, or "both" where a pair or all sentences are one unit."""
    measure: str
    hits: int
    n: int
    value: float
    low: float
    high: float


def share(dataset: str, language: str, gender: str, measure: str, hits: int, n: int) -> BenchmarkRow:
    """A row for `hits` of `n`; value and interval are NaN where n is 0. Interval: Wilson (1927)."""
    if n == 0:
        nan = float("nan")
        return BenchmarkRow(dataset, language, gender, measure, 0, 0, nan, nan, nan)
    p, z2 = hits / n, _Z_95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return BenchmarkRow(dataset, language, gender, measure, hits, n, p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def score_benchmarks(data_dir: Path, keep: Callable[[str], bool] = lambda key: True) -> list[BenchmarkRow]:
    """The rows of every data set found under `data_dir`; `keep` chooses sentences by a stable key such as "mt_geneval:17".

    Raises InputError where the folder holds none of the data sets.
    """
    rows: list[BenchmarkRow] = []
    for folder, score in _DATASETS.items():
        if (data_dir / folder).is_dir():
            rows += score(data_dir / folder, keep)
    if not rows:
        raise InputError(f"{data_dir} holds none of {', '.join(_DATASETS)}; give the folder that contains them")
    return rows


def female_score(label: CaptionLabel) -> float:
    """How much more feminine than masculine the evidence is: certain marks count 1, ambiguous ones one half."""
    signs = {"F": 1.0, "M": -1.0, "N": 0.0}
    return sum(signs[item.gender] * (0.5 if item.ambiguous else 1.0) for item in label.evidence)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _accuracy(dataset: str, language: str, labelled: Iterable[tuple[str, str]]) -> list[BenchmarkRow]:
    """Per gold gender: accuracy over all sentences, coverage (a gender was said), accuracy where covered, and precision of the label."""
    pairs = list(labelled)
    rows = []
    for gender in sorted({gold for gold, _ in pairs}):
        found = Counter(label for gold, label in pairs if gold == gender)
        n, hits = found.total(), found[gender]
        rows.append(share(dataset, language, gender, "sentence accuracy", hits, n))
        if gender != "N":
            covered = found["F"] + found["M"] + found["X"]
            rows.append(share(dataset, language, gender, "coverage", covered, n))
            rows.append(share(dataset, language, gender, "accuracy where covered", hits, covered))
        said = sum(label == gender for _, label in pairs)
        rows.append(share(dataset, language, gender, "sentence precision", hits, said))
    return rows


def _mt_geneval(folder: Path, keep: Callable[[str], bool]) -> list[BenchmarkRow]:
    rows: list[BenchmarkRow] = []
    for language in ("en", "ar"):
        feminine = _lines(folder / f"geneval-sentences-feminine-dev.en_ar.{language}")
        masculine = _lines(folder / f"geneval-sentences-masculine-dev.en_ar.{language}")
        chosen = [place for place in range(len(feminine)) if keep(f"mt_geneval:{place}")]
        labels = {(place, gender): label_caption(text[place], language) for place in chosen for gender, text in (("F", feminine), ("M", masculine))}
        rows += _accuracy("mt_geneval", language, [(gender, label.label) for (_, gender), label in labels.items()])
        ordered = sum(female_score(labels[place, "F"]) > female_score(labels[place, "M"]) for place in chosen)
        rows.append(share("mt_geneval", language, "both", "pair ordering", ordered, len(chosen)))
        word_rows = []
        for gender, name in (("F", "feminine"), ("M", "masculine")):
            marked = _lines(folder / "annotated" / f"geneval-sentences-{name}-dev.en_ar.{language}")
            word_rows += _words("mt_geneval", language, gender, [marked[place] for place in chosen])
        for measure in ("word precision", "word recall"):
            same = [row for row in word_rows if row.measure == measure]
            word_rows.append(share("mt_geneval", language, "both", measure, sum(row.hits for row in same), sum(row.n for row in same)))
        rows += word_rows
    return rows + _contextual(folder, keep)


def _words(dataset: str, language: str, gender: str, marked: list[str]) -> list[BenchmarkRow]:
    """Word-level precision (certain evidence of the sentence's gender inside a marked span) and recall (marked words with evidence)."""
    inside = said = found = words = 0
    for line in marked:
        text, spans = _unmarked(line)
        label = label_caption(text, language)
        own = [item for item in label.evidence if item.gender == gender]
        certain = [item for item in own if not item.ambiguous]
        said += len(certain)
        inside += sum(any(item.start < end and start < item.end for start, end in spans) for item in certain)
        for start, end in spans:
            for word in _WORD.finditer(text, start, end):
                words += 1
                found += any(item.start < word.end() and word.start() < item.end for item in own)
    return [share(dataset, language, gender, "word precision", inside, said), share(dataset, language, gender, "word recall", found, words)]


def _unmarked(line: str) -> tuple[str, list[tuple[int, int]]]:
    """The text of an annotated line without its marks, and the spans that were marked."""
    text, spans, position = "", [], 0
    for match in _SPAN.finditer(line):
        text += _TAG.sub("", line[position : match.start()])
        inner = _TAG.sub("", match[1])
        spans.append((len(text), len(text) + len(inner)))
        text += inner
        position = match.end()
    return text + _TAG.sub("", line[position:]), spans


def _contextual(folder: Path, keep: Callable[[str], bool]) -> list[BenchmarkRow]:
    """Sentences whose gender is said only in the sentence before: the English context orders original and flipped Arabic."""
    english = _lines(folder / "geneval-context-wikiprofessions-2to1-dev.en_ar.en")
    original = _lines(folder / "geneval-context-wikiprofessions-original-dev.en_ar.ar")
    flipped = _lines(folder / "geneval-context-wikiprofessions-flipped-dev.en_ar.ar")
    right = decided = total = 0
    for place, (context, first, second) in enumerate(zip(english, original, flipped, strict=True)):
        if not keep(f"mt_geneval_context:{place}"):
            continue
        total += 1
        label = label_caption(context.partition("<sep>")[0], "en").label
        if label not in "FM":
            continue
        decided += 1
        difference = female_score(label_caption(first, "ar")) - female_score(label_caption(second, "ar"))
        right += difference > 0 if label == "F" else difference < 0
    return [share("mt_geneval_context", "en", "both", "coverage", decided, total), share("mt_geneval_context", "ar", "both", "pair ordering", right, decided)]


def _xvnli(folder: Path, keep: Callable[[str], bool]) -> list[BenchmarkRow]:
    """Captions and their human translations: the share of distinct sentence pairs with one label in both languages."""
    pairs: dict[str, str] = {}
    for left, right in zip(_lines(folder / "train_48.en.jsonl"), _lines(folder / "train_48.ar.jsonl"), strict=True):
        english, arabic = json.loads(left), json.loads(right)
        for field in ("sentence1", "sentence2"):
            pairs[english[field]] = arabic[field]
    labels = [(label_caption(english, "en").label, label_caption(arabic, "ar")) for english, arabic in pairs.items() if keep(f"xvnli:{english}")]
    # Masculine by grammar alone is how Arabic says "a person".
    same = sum(left == ("N" if right.label == "M" and not right.explicit else right.label) for left, right in labels)
    rows = [share("xvnli", "en-ar", "both", "same label (grammatical masculine read as neutral)", same, len(labels))]
    for gender in "FM":
        said = [(left, right) for left, right in labels if left == gender]
        rows.append(share("xvnli", "ar", gender, "agrees with English", sum(right.label == gender for _, right in said), len(said)))
    neutral = [right for left, right in labels if left in "N0"]
    quiet = sum(right.label in "N0" or (right.label == "M" and not right.explicit) for right in neutral)
    return [*rows, share("xvnli", "ar", "N", "no explicit gender where English has none", quiet, len(neutral))]


def _winogender(folder: Path, keep: Callable[[str], bool]) -> list[BenchmarkRow]:
    golds = {"male": "M", "female": "F", "neutral": "N"}
    with (folder / "all_sentences.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if keep(f"winogender:{row['sentid']}")]
    return _accuracy("winogender", "en", [(golds[row["sentid"].split(".")[3]], label_caption(row["sentence"], "en").label) for row in rows])


def _winobias(folder: Path, keep: Callable[[str], bool]) -> list[BenchmarkRow]:
    labelled = []
    for path in sorted(folder.glob("*_stereotyped_type*.dev")):
        for place, line in enumerate(_lines(path)):
            text = line.partition(" ")[2].replace("[", "").replace("]", "")
            words = set(re.findall(r"[a-z]+", text.lower()))
            gold = "F" if words & {"she", "her", "hers", "herself"} else "M"
            if keep(f"winobias:{path.name}:{place}"):
                labelled.append((gold, label_caption(text, "en").label))
    return _accuracy("winobias", "en", labelled)


def _winomt(folder: Path, keep: Callable[[str], bool]) -> list[BenchmarkRow]:
    golds = {"male": "M", "female": "F", "neutral": "N"}
    labelled = []
    for line in _lines(folder / "en.txt"):
        gender, _, text, _ = line.split("\t")
        if keep(f"winomt:{text}"):
            labelled.append((golds[gender], label_caption(text, "en").label))
    return _accuracy("winomt", "en", labelled)


CARRIERS = (
    "هذه {}",
    "{} على الطاولة",
    "صورة {}",
    "تظهر {} في الصورة",
    "وقفت {} أمام البيت",
    "ال{} التي تقع هنا جميلة",
    "توجد {} كبيرة في الغرفة",
)
"""Sentences about a feminine noun that name no person."""


def _nouns(folder: Path, keep: Callable[[str], bool]) -> list[BenchmarkRow]:
    """Feminine nouns in sentences about things: the share that is not called F. Nouns that name persons are left out by a hand-written list."""
    nouns = [word.strip() for word in _lines(folder / "feminine_nouns_ar")]
    # The list has words with prepositions attached; in a carrier they would be no sentence.
    attached = ("لل", "لإ", "بال", "وال")
    chosen = [word for word in nouns if word.endswith(("ة", "ات")) and " " not in word and not word.startswith(attached) and keep(f"nouns:{word}")]
    persons = words_of("ar_contexts", "a person in a list of nouns")
    bare = [word for word in (word.removeprefix("ال") for word in chosen) if normal(word) not in persons]
    quiet = sum(label_caption(carrier.format(word), "ar").label != "F" for word in bare for carrier in CARRIERS)
    return [share("aragenderbias", "ar", "F", "inanimate feminine nouns not called F", quiet, len(bare) * len(CARRIERS))]


def _emoji(folder: Path, keep: Callable[[str], bool]) -> list[BenchmarkRow]:
    with (folder / "triples.csv").open(encoding="utf-8", newline="") as file:
        triples = list(csv.DictReader(file))
    rows: list[BenchmarkRow] = []
    for language in ("en", "ar"):
        for gender, field in (("M", f"{language}_m"), ("F", f"{language}_w")):
            names = list(_names(triples, field))
            rows.append(share("emoji", language, gender, "sentence accuracy", sum(label_caption(name, language).label == gender for name in names), len(names)))
    return rows


def _names(triples: list[dict[str, str]], field: str) -> Iterator[str]:
    for row in triples:
        yield row[field]
        if field.startswith("ar") and row[f"cldr_{field}"] != row[field]:
            yield row[f"cldr_{field}"]


_DATASETS: dict[str, Callable[[Path, Callable[[str], bool]], list[BenchmarkRow]]] = {
    "mt_geneval": _mt_geneval,
    "xvnli": _xvnli,
    "winogender": _winogender,
    "winobias": _winobias,
    "winomt": _winomt,
    "aragenderbias": _nouns,
    "emoji": _emoji,
}
