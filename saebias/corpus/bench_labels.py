"""How fast captions are labelled: `python -m saebias.corpus.bench_labels` prints captions per second of one core, in both languages."""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from saebias.corpus.label_lexicon import lexicon
from saebias.corpus.labels import labeller

TEMPLATES = {
    "en": (
        "A {a} in a {colour} shirt is {doing} near his {place}",
        "Two {a} and a {b} are {doing} while she holds a {thing}",
        "The {a} stands beside a {colour} {thing} in front of the {place}",
        "A {colour} {thing} on a wooden table near a window in the {place}",
        "There is a {a} {doing} with a {b} at the edge of a {place}",
    ),
    "ar": (
        "{a} في قميص {colour} قرب {place} مع {thing} جديدة وهو يقف وحده هناك",
        "صورة {a} و{b} يجلسان بجانب {thing} في {place} القديم تحت ضوء الشمس اليوم",
        "تظهر {a} تحمل {thing} كبيرة أمام {place} المزدحم في يوم مشمس جدا",
        "{thing} {colour} على طاولة خشبية قرب نافذة كبيرة داخل {place} دون أحد",
        "هناك {a} يعمل بهدوء مع {b} عند باب {place} الذي يقع هنا",
    ),
}
FILLINGS = {
    "en": {
        "colour": ["red", "blue", "green", "yellow", "white", "black", "striped", "bright"],
        "doing": ["standing", "cooking", "reading", "dancing", "running", "waiting", "painting", "singing"],
        "place": ["station", "kitchen", "market", "beach", "office", "garden", "bridge", "library"],
        "thing": ["umbrella", "guitar", "basket", "laptop", "bicycle", "camera", "book", "ladder"],
    },
    "ar": {
        "colour": ["أحمر", "أزرق", "أخضر", "أصفر", "أبيض", "أسود", "مخطط", "فاتح"],
        "place": ["المحطة", "المطبخ", "السوق", "الشاطئ", "المكتب", "الحديقة", "الجسر", "المكتبة"],
        "thing": ["مظلة", "قيثارة", "سلة", "حاسوب", "دراجة", "كاميرا", "كتاب", "سلم"],
    },
}


def sample_captions(language: str, n: int, seed: int) -> list[str]:
    """`n` captions of 12 words at the median, about every person the lexicon names; the same for the same seed."""
    rng = np.random.default_rng(seed)
    persons = [entry.word for entry in lexicon({"en": "en", "ar": "ar_persons"}[language]) if entry.gender in "FMN" and entry.kind in ("person", "role", "kin")]
    words = {**FILLINGS[language], "a": persons, "b": persons}
    templates = TEMPLATES[language]
    drawn = {name: rng.integers(len(choices), size=n) for name, choices in words.items()}
    which = rng.integers(len(templates), size=n)
    return [templates[which[row]].format(**{name: choices[drawn[name][row]] for name, choices in words.items()}) for row in range(n)]


def captions_per_second(language: str, captions: list[str]) -> tuple[float, float]:
    """Captions per second of processor time: at first sight of every word form, and once the forms are known."""
    label = labeller(language)
    rates = []
    for _ in range(2):
        started = time.process_time()
        for caption in captions:
            label(caption)
        rates.append(len(captions) / (time.process_time() - started))
    return rates[0], rates[1]


def main() -> None:
    """Print one line per language."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=20_000, help="how many captions per language")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for language in ("en", "ar"):
        captions = sample_captions(language, arguments.captions, arguments.seed)
        labeller(language)("")
        first, again = captions_per_second(language, captions)
        median = statistics.median(len(caption.split()) for caption in captions)
        print(f"{language}: {first:,.0f} captions/s/core from nothing, {again:,.0f} with word forms known; median {median:g} words, {len(captions):,} captions")


if __name__ == "__main__":
    main()
