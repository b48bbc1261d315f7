"""The headline answers in plain sentences, worded from the numbers and their intervals alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saebias.plots.report.data import ReportData
from saebias.plots.style import language_name
from saebias.plots.tables import Row, number

SHOWN, ABSENT, UNKNOWN = "shown", "absent", "unknown"
# What makes one intervention at one dose.
ARM_KEY = ("arm", "arm_name", "target", "layer", "strength")
# Arms that change nothing on purpose or are controls: never recommended.
CONTROL_ARMS = ("A0", "A1", "A2", "A6", "A7", "A13")


@dataclass(frozen=True)
class Finding:
    """One sentence; verdict says whether the effect is shown, not shown (its interval covers nothing-happens), or unknown."""

    text: str
    verdict: str


def figures_of(value: float) -> str:
    """A number as the report writes it: three decimals, a true minus."""
    return f"{value:.3f}".replace("-", "\u2212")


def with_interval(row: Row, value: str = "value", low: str = "low", high: str = "high") -> str:
    """`0.243 (95 % interval 0.221 to 0.262)`; says so when there is no interval."""
    middle, ends = number(row, value), (number(row, low), number(row, high))
    assert middle is not None
    if ends[0] is None or ends[1] is None:
        return f"{figures_of(middle)} (no interval)"
    return f"{figures_of(middle)} (95 % interval {figures_of(ends[0])} to {figures_of(ends[1])})"


def leaves_out(row: Row, null: float, low: str = "low", high: str = "high") -> bool | None:
    """Whether the interval of `row` leaves out `null`; None when there is no interval."""
    ends = (number(row, low), number(row, high))
    return None if ends[0] is None or ends[1] is None else ends[0] > null or ends[1] < null


def is_it_biased(data: ReportData) -> list[Finding]:
    """Stereotype, default, misgendering and amplification, per language."""
    codes = data.languages
    found = [_stereotype(data.summary, code) for code in codes]
    found += [_default(data.summary, code) for code in codes]
    if len(codes) > 1:
        found += _default_difference(data.summary)
    found += [_misgendering(data.summary, code) for code in codes]
    return found + [finding for code in codes for finding in _amplification(data.amplification, code)]


def where_is_it(data: ReportData) -> list[Finding]:
    """Where a probe and the lens find gender, per language."""
    return [finding for code in data.languages for finding in (_probe(data.layers, code), _lens(data.layers, code))]


def can_it_be_removed(data: ReportData) -> list[Finding]:
    """What the best intervention within the harm budget leaves, per language; chosen on the select split, told on the report split."""
    return [_removal(data, code) for code in data.languages]


def verdicts(data: ReportData) -> dict[str, str]:
    """The three answers in one line each, from the same findings."""
    removed = {code: _removal(data, code) for code in data.languages}
    read = [layer for code in data.languages if (layer := _first_layer(data.layers, code)) is not None]
    located = f"Readable from layer {min(read)} on, at the decision token." if read else "No layer is shown to carry it."
    if not any(row["panel"] == "probe" for row in data.layers):
        located = "Not measured."
    short = {code: _short(finding) for code, finding in removed.items()}
    return {"biased": _in_short(data), "located": located, "removable": _by_language(short)}


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
    text = finding.text.split(": ", 1)[1].split(". ", 1)[0].rstrip(".")
    return "not measured" if finding.verdict == UNKNOWN else text.split(";", 1)[0]


def _first_layer(layers: Sequence[Row], language: str) -> int | None:
    """The first layer whose probe beats its control, or None."""
    clear = _beating_control(layers, language)
    return int(clear[0]["layer"]) if clear else None


def _find(rows: Iterable[Row], **wanted: object) -> Row | None:
    """The first row whose columns have the wanted values."""
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def _not_measured(what: str, language: str, row: Row | None) -> Finding:
    reason = f": {row['note']}" if row is not None and row.get("note") else ""
    return Finding(f"{language_name(language)}: {what} was not measured{reason}.", UNKNOWN)


def _stereotype(summary: Sequence[Row], language: str) -> Finding:
    name, row = language_name(language), _find(summary, metric="stereotype_spread", language=language)
    if row is None or number(row, "value") is None:
        return _not_measured("the stereotype", language, row)
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
    name, row = language_name(language), _find(summary, metric="masculine_default", language=language)
    value = None if row is None else number(row, "value")
    if row is None or value is None:
        return _not_measured("the default gender", language, row)
    said = f"1/2 \u2212 mean P(woman) is {with_interval(row)}"
    shown = leaves_out(row, 0.0)
    if not shown:
        ending, found = ("; without an interval nothing is concluded", UNKNOWN) if shown is None else ("; the interval covers zero", ABSENT)
        return Finding(f"{name}: no default gender shown. {said}{ending}{_verdict_of(row)}.", found)
    return Finding(f"{name}: {'masculine' if value > 0 else 'feminine'} default. {said}{_verdict_of(row)}.", SHOWN)


def _default_difference(summary: Sequence[Row]) -> list[Finding]:
    row = _find(summary, metric="masculine_default", language="ar-en")
    value = None if row is None else number(row, "value")
    if row is None or value is None:
        return []
    if not leaves_out(row, 0.0):
        return [
            Finding(f"No difference between the defaults of Arabic and English shown: Arabic minus English is {with_interval(row)} on the same images.", ABSENT)
        ]
    more = "more" if value > 0 else "less"
    return [Finding(f"Arabic is {more} masculine by default than English, by {with_interval(row)} on the same images.", SHOWN)]


def _misgendering(summary: Sequence[Row], language: str) -> Finding:
    name, row = language_name(language), _find(summary, metric="misgender_gap", language=language)
    value = None if row is None else number(row, "value")
    if row is None or value is None:
        return _not_measured("the misgendering gap", language, row)
    said = f"wrong gender for women minus for men is {with_interval(row)}"
    if not leaves_out(row, 0.0):
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


def _probe(layers: Sequence[Row], language: str) -> Finding:
    name = language_name(language)
    if not any(row["panel"] == "probe" and row["language"] == language and number(row, "value") is not None for row in layers):
        return _not_measured("gender by layer", language, None)
    clear = _beating_control(layers, language)
    if not clear:
        return Finding(f"{name}: no layer is shown to carry gender at the decision token; no probe beats its control task.", ABSENT)
    best = max(clear, key=lambda row: row["value"])
    control = _controls(layers, language)[best["layer"]]
    text = f"{name}: at the decision token a linear probe first beats its control in layer {clear[0]['layer']} and reads gender best in layer {best['layer']}"
    return Finding(f"{text}, with balanced accuracy {with_interval(best)}; control task {figures_of(control)}.", SHOWN)


def _controls(layers: Sequence[Row], language: str) -> dict[int, float]:
    """Control accuracy by layer."""
    rows = (row for row in layers if row["panel"] == "probe" and row["series"] == "control" and row["language"] == language)
    return {row["layer"]: value for row in rows if (value := number(row, "value")) is not None}


def _beating_control(layers: Sequence[Row], language: str) -> list[Row]:
    """The probe rows, by layer, whose whole interval is above their control and above chance (a control under 1/2 proves nothing)."""
    controls = _controls(layers, language)
    probe = (row for row in layers if row["panel"] == "probe" and row["series"] == "probe" and row["language"] == language)
    known = sorted((row for row in probe if row["layer"] in controls and number(row, "value") is not None), key=lambda row: row["layer"])
    return [row for row in known if (low := number(row, "low")) is not None and low > max(0.5, controls[row["layer"]])]


def _lens(layers: Sequence[Row], language: str) -> Finding:
    name = language_name(language)
    lens = [row for row in layers if row["panel"] == "lens" and row["language"] == language]
    women = {row["layer"]: number(row, "low") for row in lens if row["series"] == "woman"}
    men = {row["layer"]: number(row, "high") for row in lens if row["series"] == "man"}
    both = sorted(women.keys() & men.keys())
    if not both:
        return _not_measured("the logit lens", language, None)
    parted = [layer for layer in both if (low := women[layer]) is not None and (high := men[layer]) is not None and low > 0 > high]
    # The first layer from which on all layers tell the two apart: one layer that happens to is no emergence.
    lasting = [layer for layer in parted if all(later in parted for later in both if later >= layer)]
    if not lasting:
        return Finding(f"{name}: the logit lens does not tell images of women from images of men in any last layers.", ABSENT)
    return Finding(f"{name}: from layer {lasting[0]} on the logit lens says woman for images of women and man for images of men.", SHOWN)


def _removal(data: ReportData, language: str) -> Finding:
    name, steering = language_name(language), data.steering
    told = [row for row in steering if row["language"] == language and row["split"] == "report" and number(row, "spread_left") is not None]
    base = _find(told, arm="A0")
    if base is None:
        return _not_measured("an intervention with its baseline", language, None)
    before = with_interval(base, "spread_left", "spread_low", "spread_high")
    if not leaves_out(base, 0.0, "spread_low", "spread_high"):
        return Finding(f"{name}: nothing to remove; no stereotype is shown without an intervention, {before}.", ABSENT)
    chosen, how = _best_arm(data, told, language)
    if chosen is None:
        return Finding(f"{name}: {how}.", ABSENT)
    arm = f"{chosen['arm']} {chosen['arm_name']}, aimed at {chosen['target']}, layer {chosen['layer']}, strength {chosen['strength']:g}"
    after, price = with_interval(chosen, "spread_left", "spread_low", "spread_high"), _price(chosen)
    told_all = f"{arm} ({how}) leaves a spread of {after} where the untouched model has {before}{price}."
    p = number(chosen, "spread_p")
    if not _less_than_before(chosen, base) or (p is not None and p > 0.05):
        return Finding(f"{name}: not shown to be removable. {told_all}", ABSENT)
    rest = "removed as far as can be seen" if not leaves_out(chosen, 0.0, "spread_low", "spread_high") else "reduced, not removed"
    return Finding(f"{name}: {rest}. {told_all}", SHOWN)


def _less_than_before(chosen: Row, base: Row) -> bool:
    """Whether less stereotype is shown: by the interval of the share removed, which is paired by image; else only where the two intervals lie apart."""
    share_low = number(chosen, "debias_low")
    if share_low is not None:
        return share_low > 0
    high, base_low = number(chosen, "spread_high"), number(base, "spread_low")
    return high is not None and base_low is not None and high < base_low


def _best_arm(data: ReportData, told: Sequence[Row], language: str) -> tuple[Row | None, str]:
    """The report row of the arm that leaves least on the select split within the budgets, and how it was chosen or why there is none."""
    reported = {tuple(row[column] for column in ARM_KEY): row for row in told}
    tried = [row for row in data.steering if row["language"] == language and row["split"] == "select" and row["arm"] not in CONTROL_ARMS]
    if not tried:
        full = [row for row in told if row["arm"] == "A3"]
        if not full:
            return None, "no intervention was tried"
        strongest = max(full, key=lambda row: (row["strength"], str(row["target"]).startswith("stereotype")))
        return strongest, "full strength, fixed beforehand: there is no select split to choose on"
    base = _find([row for row in data.steering if row["language"] == language and row["split"] == "select"], arm="A0")
    fit = [row for row in tried if _within_budgets(row, data) and _keeps_default(row, base, data) and tuple(row[column] for column in ARM_KEY) in reported]
    if not fit:
        return None, "no intervention kept within the budgets for harm on clear images and caption quality"
    best = min(fit, key=lambda row: row["spread_left"])
    return reported[tuple(best[column] for column in ARM_KEY)], "chosen on the select split within the harm budget"


def _keeps_default(row: Row, base: Row | None, data: ReportData) -> bool:
    """Whether mean P(woman) stays as near 1/2 as the budget asks: an edit that says one gender to everybody leaves no spread either."""
    now, before = number(row, "default_left"), None if base is None else number(base, "default_left")
    return data.default_budget is None or now is None or before is None or abs(now) - abs(before) <= data.default_budget


def _within_budgets(row: Row, data: ReportData) -> bool:
    """Whether a select row is known and does no more harm than the budgets allow."""
    harm, rise, left = number(row, "clear_harm"), number(row, "cross_entropy_rise"), number(row, "spread_left")
    if harm is None or left is None:
        return False
    return harm <= data.harm_budget and (data.cross_entropy_budget is None or rise is None or rise <= data.cross_entropy_budget)


def _price(row: Row) -> str:
    """What it costs on clear images, and the permutation p, as far as known."""
    harm, p = number(row, "clear_harm"), number(row, "spread_p")
    removed = "" if number(row, "debias") is None else f"; share removed {with_interval(row, 'debias', 'debias_low', 'debias_high')}"
    default = number(row, "default_left")
    removed += "" if default is None else f"; masculine default then {default:.3f}"
    cost = "" if harm is None else f", at a harm of {with_interval(row, 'clear_harm', 'harm_low', 'harm_high')} on clear images"
    return removed + cost + ("" if p is None else f"; p = {p:.3g} against matched random latents")
