"""Masking hides gender and swapping turns it round, agreement included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from saebias.corpus.labels import label_caption
from saebias.corpus.masking import neutralise, swap
from saebias.errors import InputError

from .conftest import gold

# Captions with one gender: the other one is a counterfactual.
ONE_GENDER = {language: [text for label, _, text in gold(language) if label in "FM"] for language in ("en", "ar")}


@pytest.mark.parametrize(
    ("text", "masked", "swapped"),
    [
        ("a woman walks her dog", "a person walks their dog", "a man walks his dog"),
        ("she watches him", "they watch them", "he watches her"),
        ("an actress with her brother", "a performer with their sibling", "an actor with his sister"),
        ("The policewoman gave him his hat", "The policeperson gave them their hat", "The policeman gave her her hat"),
        ("SHE IS TALL", "THEY ARE TALL", "HE IS TALL"),
        ("the bag is hers", "the bag is theirs", "the bag is his"),
    ],
)
def test_english_captions_are_masked_and_swapped(text: str, masked: str, swapped: str) -> None:
    assert neutralise(text, "en") == masked
    assert swap(text, "en") == swapped


@pytest.mark.parametrize(
    ("text", "masked", "swapped"),
    [
        ("طباخة مع جيتار", "طباخ مع جيتار", "طباخ مع جيتار"),
        ("سيدة ترتدي عمامة", "شخص يرتدي عمامة", "سيد يرتدي عمامة"),
        ("امرأة جميلة تحمل حقيبتها", "شخص جميل يحمل حقيبته", "رجل جميل يحمل حقيبته"),
        ("مشت الفتاة إلى بيتها", "مشى الشخص إلى بيته", "مشى الفتى إلى بيته"),
        ("امرأتان ترقصان", "شخصان يرقصان", "رجلان يرقصان"),
        ("النساء يلعبن الكرة", "الأشخاص يلعبون الكرة", "الرجال يلعبون الكرة"),
        ("المرأة التي تقف هناك طبيبة", "الشخص الذي يقف هناك طبيب", "الرجل الذي يقف هناك طبيب"),
        ("يقرأ الولد كتابه", "يقرأ الطفل كتابه", "تقرأ البنت كتابها"),
        ("رجل أشقر يضحك", "شخص أشقر يضحك", "امرأة شقراء تضحك"),
    ],
)
def test_arabic_captions_are_masked_and_swapped_with_their_agreement(text: str, masked: str, swapped: str) -> None:
    assert neutralise(text, "ar") == masked
    assert swap(text, "ar") == swapped


@pytest.mark.parametrize("language", ["en", "ar"])
def test_masked_captions_say_no_explicit_gender(language: str) -> None:
    left = [text for text in ONE_GENDER[language] if label_caption(neutralise(text, language), language).explicit]
    assert len(left) <= 0.02 * len(ONE_GENDER[language]), left


@pytest.mark.parametrize("language", ["en", "ar"])
def test_swapped_captions_have_the_other_gender(language: str) -> None:
    other = {"F": "M", "M": "F"}
    labels = [(label_caption(text, language).label, label_caption(swap(text, language), language).label) for text in ONE_GENDER[language]]
    kept = sum(before == after for before, after in labels)
    # The rest has no word of the other gender ("an actor" is neutral, نجارة is carpentry) or is a generic plural (العمال), which stays.
    assert sum(after == other[before] for before, after in labels) >= 0.93 * len(labels)
    assert kept <= 0.05 * len(labels)


@pytest.mark.parametrize("language", ["en", "ar"])
def test_captions_without_gender_are_left_alone(language: str) -> None:
    for label, _, text in gold(language):
        if label in "N0":
            assert neutralise(text, language) == swap(text, language) == text


def balanced_accuracy_of_an_attacker(texts: list[str], genders: np.ndarray, groups: np.ndarray) -> float:
    """Cross-fitted with both captions of a pair in one fold, so that only gender, not content, can help."""
    features = CountVectorizer(analyzer="char_wb", ngram_range=(1, 4)).fit_transform(texts)
    guess = cross_val_predict(LogisticRegression(max_iter=300), features, genders, groups=groups, cv=GroupKFold(5))
    return float(np.mean([(guess[genders == gender] == gender).mean() for gender in (0, 1)]))


@pytest.mark.parametrize("language", ["en", "ar"])
def test_an_attacker_is_at_chance_on_masked_pairs_and_not_before(language: str) -> None:
    captions = ONE_GENDER[language]
    texts, genders, groups = [], [], []
    for pair, text in enumerate(captions):
        for version in (text, swap(text, language)):
            texts.append(version)
            genders.append(int(label_caption(version, language).label == "F"))
            groups.append(pair)
    gender_N, group_N = np.array(genders), np.array(groups)
    assert balanced_accuracy_of_an_attacker(texts, gender_N, group_N) > 0.85
    masked = [neutralise(text, language) for text in texts]
    # Two standard deviations of a coin over as many pairs.
    assert balanced_accuracy_of_an_attacker(masked, gender_N, group_N) < 0.5 + 1.0 / np.sqrt(len(captions))


@pytest.mark.parametrize("language", ["en", "ar"])
def test_a_caption_and_its_swap_are_masked_alike_on_human_captions(data_dir: Path, language: str) -> None:
    captions = set()
    for line in (data_dir / "xvnli" / f"train_48.{language}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        captions |= {row["sentence1"], row["sentence2"]}
    alike = sum(neutralise(swap(text, language), language) == neutralise(text, language) for text in captions)
    assert alike / len(captions) >= {"en": 0.99, "ar": 0.9}[language]


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(InputError, match="'fr'"):
        neutralise("une femme", "fr")
