"""Captions in a cell of a table: one, a JSON list of them, or several columns; and whether each is written in its language's script."""

from __future__ import annotations

import json
import re
import unicodedata

# Arabic letters with those of Persian and Urdu, the presentation forms too; no digits, no diacritics, no punctuation.
ARABIC_LETTERS = (
    "\u0620-\u063f\u0641-\u064a\u066e\u066f\u0671-\u06d3\u06d5\u06ee\u06ef\u06fa-\u06fc\u06ff"
    "\u0750-\u077f\u08a0-\u08c9\ufb50-\ufbb1\ufbd3-\ufd3d\ufd50-\ufdf9\ufe70-\ufefc"
)
_ARABIC = re.compile(f"[{ARABIC_LETTERS}]")
_LATIN = re.compile("[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]")
_VISIBLE = re.compile(f"[!-~{ARABIC_LETTERS}]")
_ASCII_LETTER = re.compile("[A-Za-z]")
LANGUAGE_NAMES = {"en": "English", "ar": "Arabic"}


class BadCaption(Exception):
    """A caption cell that cannot be used: `value` is what stood there."""

    def __init__(self, reason: str, value: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = value


def captions_of(cells: list[object], language: str) -> tuple[list[str], int]:
    """The captions of a row's cells in one language, and how many blank ones were passed over beside them.

    A cell is a text, a list of texts, or a text that is a JSON list. Raises BadCaption where no caption is left, or one is in the wrong script.
    """
    texts: list[str] = []
    n_blank = 0
    for cell in cells:
        for text in _texts(cell):
            if is_blank(text):
                n_blank += 1
            else:
                texts.append(text.strip())
    if not texts:
        raise BadCaption(f"no {LANGUAGE_NAMES[language]} caption", cells[0] if len(cells) == 1 else cells)
    for text in texts:
        reason = wrong_script(text, language)
        if reason is not None:
            raise BadCaption(reason, text)
    # A blank beside real captions: tables with caption_1 ... caption_5 rarely fill all five.
    return texts, n_blank


def _texts(cell: object) -> list[str]:
    if cell is None:
        return [""]
    if isinstance(cell, str):
        stripped = cell.strip()
        if not (stripped.startswith("[") and stripped.endswith("]")):
            return [cell]
        try:
            cell = json.loads(stripped)
        except (ValueError, RecursionError):
            raise BadCaption('looks like a list of captions but is not JSON; write ["one", "two"]', stripped) from None
    if not isinstance(cell, list):
        raise BadCaption(f"a caption must be text, not {type(cell).__name__}", cell)
    for text in cell:
        if text is not None and not isinstance(text, str):
            raise BadCaption(f"a caption must be text, not {type(text).__name__}", text)
    return [text or "" for text in cell] or [""]


def is_blank(text: str) -> bool:
    """True when nothing of a text would be seen: white space, direction marks, joiners and control characters alone."""
    # Nearly every text holds a visible ASCII character or an Arabic letter; the look at each character is for the rest.
    if _VISIBLE.search(text):
        return False
    return all(character.isspace() or unicodedata.category(character) in ("Cf", "Cc") for character in text)


def wrong_script(text: str, language: str) -> str | None:
    """Why a caption cannot be in its language, judged by its letters alone; None when it can.

    Arabic needs one Arabic letter (names of things are often Latin); English needs at least as many Latin letters as others.
    """
    if language == "ar":
        return None if _ARABIC.search(text) else "Arabic caption without an Arabic letter"
    if text.isascii():
        return None if _ASCII_LETTER.search(text) else "English caption without a letter"
    n_letters = sum(map(str.isalpha, text))
    n_latin = len(_LATIN.findall(text))
    if n_letters == 0:
        return "English caption without a letter"
    if 2 * n_latin >= n_letters:
        return None
    script = "Arabic" if 2 * len(_ARABIC.findall(text)) > n_letters else "non-Latin"
    return f"English caption mostly in {script} letters"
