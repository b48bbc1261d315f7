"""Labelling is fast enough for millions of captions."""

from __future__ import annotations

import time

import pytest

from saebias.corpus.labels import labeller

from .conftest import gold


@pytest.mark.slow
@pytest.mark.parametrize(("language", "floor"), [("en", 20_000), ("ar", 8_000)])
def test_captions_of_twelve_words_are_labelled_per_second_of_one_core(language: str, floor: int) -> None:
    """Process time, so that other programs on the machine do not count."""
    words = " ".join(text for _, _, text in gold(language)).split()
    captions = [" ".join(words[start : start + 12]) for start in range(0, len(words) - 12, 12)]
    label = labeller(language)
    for caption in captions:
        label(caption)
    started, rounds = time.process_time(), 20
    for _ in range(rounds):
        for caption in captions:
            label(caption)
    assert rounds * len(captions) / (time.process_time() - started) >= floor
