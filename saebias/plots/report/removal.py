"""Can it be removed: the best intervention within the budgets, chosen on the select split and told on the report split."""

from __future__ import annotations

from collections.abc import Sequence

from saebias.plots.report.data import ReportData
from saebias.plots.report.finding import ABSENT, SHOWN, UNKNOWN, Finding, find_row, leaves_out, not_measured, with_interval
from saebias.plots.style import language_name
from saebias.plots.tables import Row, number

# What makes one intervention at one dose.
ARM_KEY = ("arm", "arm_name", "target", "layer", "strength")
# Arms that change nothing on purpose or are controls: never recommended.
CONTROL_ARMS = ("A0", "A1", "A2", "A6", "A7", "A13")


def removal(data: ReportData, language: str) -> Finding:
    """What the best intervention leaves of the stereotype in one language."""
    name, steering = language_name(language), data.steering
    told = [row for row in steering if row["language"] == language and row["split"] == "report" and number(row, "spread_left") is not None]
    base = find_row(told, arm="A0")
    if base is None:
        return not_measured("an intervention with its baseline", language, None)
    before = with_interval(base, "spread_left", "spread_low", "spread_high")
    stereotyped = leaves_out(base, 0.0, "spread_low", "spread_high")
    if stereotyped is None:
        return Finding(f"{name}: not measured. The untouched model has a spread of {before}: nothing is concluded from a change of it.", UNKNOWN)
    if not stereotyped:
        return _nothing_shown(data, language, before)
    chosen, how = _best_arm(data, told, language)
    if chosen is None:
        return Finding(f"{name}: {how}.", ABSENT)
    arm = f"{chosen['arm']} {chosen['arm_name']}, aimed at {chosen['target']}, layer {chosen['layer']}, strength {chosen['strength']:g}"
    after, price = with_interval(chosen, "spread_left", "spread_low", "spread_high"), _price(chosen)
    told_all = f"{arm} ({how}) leaves a spread of {after} where the untouched model has {before}{price}."
    p = number(chosen, "spread_p")
    if not _less_than_before(chosen, base) or (p is not None and p > 0.05):
        return Finding(f"{name}: not shown to be removable. {told_all}", ABSENT)
    left = leaves_out(chosen, 0.0, "spread_low", "spread_high")
    rest = "reduced, how far is not known" if left is None else "reduced, not removed" if left else "removed as far as can be seen"
    return Finding(f"{name}: {rest}. {told_all}", SHOWN)


def _nothing_shown(data: ReportData, language: str, before: str) -> Finding:
    """Where the untouched model shows no stereotype on the pictures of the interventions: it may show one on all of them, which are more."""
    name, whole = language_name(language), find_row(data.summary, metric="stereotype_spread", language=language)
    if whole is None or not leaves_out(whole, 0.0):
        return Finding(f"{name}: nothing to remove; no stereotype is shown without an intervention, {before}.", ABSENT)
    told = f"the stereotype that all pictures together show is not told from 0 on those of the interventions, {before}: measure on more (steer.images)"
    return Finding(f"{name}: not decided; {told}.", UNKNOWN)


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
    base = find_row([row for row in data.steering if row["language"] == language and row["split"] == "select"], arm="A0")
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
