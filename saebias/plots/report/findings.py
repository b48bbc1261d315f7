"""The headline answers in plain sentences, worded from the numbers and their intervals alone."""

from __future__ import annotations

from collections.abc import Sequence

from saebias.plots.report.data import ReportData
from saebias.plots.report.finding import ABSENT, SHOWN, UNKNOWN, Finding, find_row, leaves_out, not_measured, with_interval
from saebias.plots.report.located import located
from saebias.plots.report.removal import removal
from saebias.plots.style import language_name
from saebias.plots.tables import Row, number


def is_it_biased(data: ReportData) -> list[Finding]:
    """Stereotype, default, misgendering and amplification, per language."""
    if data.unasked is not None:
        return [Finding(f"Not measured: {data.unasked}.", UNKNOWN)]
    codes = data.languages
    found = [_stereotype(data.summary, code) for code in codes]
    found += [_default(data.summary, code) for code in codes]
    if len(codes) > 1:
        found += _default_difference(data.summary)
    found += [_misgendering(data.summary, code) for code in codes]
    return found + [finding for code in codes for finding in _amplification(data.amplification, code)]


def can_it_be_removed(data: ReportData) -> list[Finding]:
    """What the best intervention within the harm budget leaves, per language; chosen on the select split, told on the report split."""
    if data.unasked is not None:
        return [Finding(f"Not measured: {data.unasked}.", UNKNOWN)]
    return [removal(data, code) for code in data.languages]


def verdicts(data: ReportData) -> dict[str, str]:
    """The three answers in one line each, from the same findings."""
    if data.unasked is not None or not data.languages:
        return {"biased": "Not measured.", "located": located(data), "removable": "Not measured."}
    removed = {code: removal(data, code) for code in data.languages}
    short = {code: _short(finding) for code, finding in removed.items()}
    return {"biased": _in_short(data), "located": located(data), "removable": _by_language(short)}


def _in_short(data: ReportData) -> str:
    """Which kinds of bias are shown, and in which languages: one line, so that no kind hides another."""
    kinds = (("stereotype", _stereotype), ("default gender", _default), ("misgendering gap", _misgendering))
    told = []
    for name, find in kinds:
        verdict = {code: find(data.summary, code).verdict for code in data.languages}
        shown = [language_name(code) for code, each in verdict.items() if each == SHOWN]
        if shown:
            told.append(f"{name} in {' and '.join(shown)}")
        else:
            told.append(f"{name} not measured" if UNKNOWN in verdict.values() else f"no {name} shown")
    line = "; ".join(told)
    return f"{line[0].upper()}{line[1:]}."


def _by_language(words: dict[str, str]) -> str:
    """`Yes, in English and Arabic.` where all languages agree, `English: yes; Arabic: not measured.` where not."""
    if len(set(words.values())) == 1:
        said = next(iter(words.values()))
        return f"{said[0].upper()}{said[1:]}, in {' and '.join(language_name(code) for code in words)}."
    return "; ".join(f"{language_name(code)}: {said}" for code, said in words.items()) + "."


def _short(finding: Finding) -> str:
    """The part of a removal finding before its first full stop, without the language."""
    text = finding.text.split(": ", 1)[1].split(". ", 1)[0].rstrip(".").split(";", 1)[0]
    return "not measured" if finding.verdict == UNKNOWN and text != "not decided" else text


def _stereotype(summary: Sequence[Row], language: str) -> Finding:
    name, row = language_name(language), find_row(summary, metric="stereotype_spread", language=language)
    if row is None or number(row, "value") is None:
        return not_measured("the stereotype", language, row)
    said = f"P(woman) on images that do not say spreads over the professions with a standard deviation of {with_interval(row)}"
    shown = leaves_out(row, 0.0)
    if shown is None:
        return Finding(f"{name}: {said}; without an interval nothing is concluded.", UNKNOWN)
    if not shown:
        return Finding(f"{name}: no stereotype shown. {said}; the interval covers zero{_verdict_of(row)}.", ABSENT)
    return Finding(f"{name}: stereotyped. {said}{_verdict_of(row)}.", SHOWN)


def _verdict_of(row: Row) -> str:
    """What the equivalence test in the note says about size: an effect can be certain and too small to matter, or uncertain and large."""
    note = str(row.get("note") or "").split(";")[0]
    return f"; {note}" if note.startswith(("present", "negligible", "undecided")) else ""


def _default(summary: Sequence[Row], language: str) -> Finding:
    name, row = language_name(language), find_row(summary, metric="masculine_default", language=language)
    value = None if row is None else number(row, "value")
    if row is None or value is None:
        return not_measured("the default gender", language, row)
    said = f"1/2 \u2212 mean P(woman) is {with_interval(row)}"
    shown = leaves_out(row, 0.0)
    if not shown:
        ending, found = ("; without an interval nothing is concluded", UNKNOWN) if shown is None else ("; the interval covers zero", ABSENT)
        return Finding(f"{name}: no default gender shown. {said}{ending}{_verdict_of(row)}.", found)
    return Finding(f"{name}: {'masculine' if value > 0 else 'feminine'} default. {said}{_verdict_of(row)}.", SHOWN)


def _default_difference(summary: Sequence[Row]) -> list[Finding]:
    row = find_row(summary, metric="masculine_default", language="ar-en")
    value = None if row is None else number(row, "value")
    if row is None or value is None:
        return []
    shown = leaves_out(row, 0.0)
    if shown is None:
        return [Finding(f"Arabic minus English default: {with_interval(row)} on the same images; without an interval nothing is concluded.", UNKNOWN)]
    if not shown:
        return [
            Finding(f"No difference between the defaults of Arabic and English shown: Arabic minus English is {with_interval(row)} on the same images.", ABSENT)
        ]
    more = "more" if value > 0 else "less"
    return [Finding(f"Arabic is {more} masculine by default than English, by {with_interval(row)} on the same images.", SHOWN)]


def _misgendering(summary: Sequence[Row], language: str) -> Finding:
    name, row = language_name(language), find_row(summary, metric="misgender_gap", language=language)
    value = None if row is None else number(row, "value")
    if row is None or value is None:
        return not_measured("the misgendering gap", language, row)
    said = f"wrong gender for women minus for men is {with_interval(row)}"
    shown = leaves_out(row, 0.0)
    if shown is None:
        return Finding(f"{name}: {said}; without an interval nothing is concluded.", UNKNOWN)
    if not shown:
        return Finding(f"{name}: no misgendering gap shown on clear images; {said}.", ABSENT)
    return Finding(f"{name}: {'women' if value > 0 else 'men'} are misgendered more often on clear images; {said}.", SHOWN)


def _amplification(rows: Sequence[Row], language: str) -> list[Finding]:
    """The steps whose rise is shown, in one sentence."""
    steps = [row for row in rows if row["language"] == language and number(row, "added") is not None]
    if not steps:
        return []
    raised = [row for row in steps if leaves_out(row, 0.0, "added_low", "added_high") and row["added"] > 0]
    if not raised:
        return [Finding(f"{language_name(language)}: no step from the training captions to greedy captions is shown to add skew.", ABSENT)]
    names = {"exact": "the model itself", "sample": "sampling", "greedy": "greedy decoding"}
    told = "; ".join(f"{names[row['stage']]} adds {with_interval(row, 'added', 'added_low', 'added_high')}" for row in raised)
    return [Finding(f"{language_name(language)}: the skew of the training captions is amplified: {told}.", SHOWN)]
