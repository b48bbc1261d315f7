"""Where is it: what probes, the lens and patching say of the layers."""

from __future__ import annotations

from collections.abc import Sequence

from saebias.plots.report.data import ReportData
from saebias.plots.report.finding import ABSENT, SHOWN, Finding, difference, figures_of, not_measured, with_interval
from saebias.plots.style import language_name
from saebias.plots.tables import Row, number


def where_is_it(data: ReportData) -> list[Finding]:
    """Where a probe, the lens and patching find gender, per language."""
    shown = "captions" if data.reads_caption else "images"
    found = [finding for code in data.languages for finding in (_probe(data, code), _lens(data.layers, code, shown))]
    return found + [finding for code in data.languages if (finding := _carried(data.patching, code)) is not None]


def located(data: ReportData) -> str:
    """The answer in one line; where the caption was read, of the gender that its words say."""
    said = _located(data)
    return f"What the prompt's words say, no evidence about pictures: {said[0].lower()}{said[1:]}" if data.reads_caption else said


def _located(data: ReportData) -> str:
    if not any(row["panel"] == "probe" for row in data.layers):
        return "Not measured."
    lasting = {code: rows for code in data.languages if (rows := _lasting(data.layers, code))}
    if not lasting:
        return "No layer is shown to carry it."
    told = ", ".join(f"{language_name(code)} from layer {rows[0]['layer']} on ({figures_of(rows[0]['value'])} there)" for code, rows in lasting.items())
    pixels = _pixels(data)
    seen = "" if pixels is None else f"; the pixels alone give {figures_of(pixels['balanced_accuracy'])}"
    return f"Readable at the decision token: {told}{seen}."


def _probe(data: ReportData, language: str) -> Finding:
    name, layers = language_name(language), data.layers
    if not any(row["panel"] == "probe" and row["language"] == language and number(row, "value") is not None for row in layers):
        return not_measured("gender by layer", language, None)
    clear = _lasting(layers, language)
    if not clear:
        return Finding(f"{name}: no layer is shown to carry gender at the decision token; no probe beats its control task in all layers from one on.", ABSENT)
    best = max(clear, key=lambda row: row["value"])
    control = _controls(layers, language)[best["layer"]]
    text = f"{name}: at the decision token a linear probe beats its control from layer {clear[0]['layer']} on; balanced accuracy {with_interval(best)}"
    return Finding(f"{text} in layer {best['layer']}{_against_others(best, clear)}; control task {figures_of(control)}{_beside(data, clear)}.", SHOWN)


def _against_others(best: Row, clear: Sequence[Row]) -> str:
    """Whether the layer with the largest number is shown to be better than the others: the largest of several is the largest by chance, too."""
    others = [row for row in clear if row is not best]
    alike = [row for row in others if (found := difference(best, row)) is None or found[1] <= 0]
    if not others:
        return ""
    if not alike:
        return ", better than in every other layer"
    which = "no layer" if len(alike) == len(others) else f"{len(others) - len(alike)} of the {len(others)} others"
    return f", from which {which} {'is' if which == 'no layer' else 'are'} shown to differ"


def _beside(data: ReportData, clear: Sequence[Row]) -> str:
    """What the picture alone gives, and from which layer on the model's reading is better: a probe that only copies the pixels has found nothing."""
    pixels = _pixels(data)
    if pixels is None:
        return ""
    alone = {"value": pixels["balanced_accuracy"], "low": pixels["low"], "high": pixels["high"]}
    better = [row for row in clear if (found := difference(row, alone)) is not None and found[1] > 0]
    lasting = [row for row in better if all(later in better for later in clear if later["layer"] >= row["layer"])]
    than = f", less than every layer from {lasting[0]['layer']} on" if lasting else ", which no layer is shown to exceed"
    return f"; the pixels alone give {figures_of(pixels['balanced_accuracy'])}{than}"


def _pixels(data: ReportData) -> Row | None:
    """The probe that reads the picture's pixels."""
    return next((row for row in data.baselines if row["baseline"] == "pixels" and number(row, "balanced_accuracy") is not None), None)


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


def _lasting(layers: Sequence[Row], language: str) -> list[Row]:
    """The probe rows of the first layer from which on all layers beat their control, and of all behind it: one layer that happens to is no emergence."""
    clear = _beating_control(layers, language)
    known = sorted({row["layer"] for row in layers if row["panel"] == "probe" and row["language"] == language})
    beaten = {row["layer"] for row in clear}
    return [row for row in clear if all(later in beaten for later in known if later >= row["layer"])]


def _carried(rows: Sequence[Row], language: str) -> Finding | None:
    """From which layer on the deciding token carries more of the gender than the picture's tokens do, whichever way is patched; None where nothing was."""
    of = [row for row in rows if row["language"] == language and row["token_kind"] == "decision"]
    layers = sorted({row["layer"] for row in of})
    if not layers:
        return None
    name = language_name(language)
    taken = [layer for layer in layers if all((low := number(row, "over_image_low")) is not None and low > 0 for row in of if row["layer"] == layer)]
    lasting = [layer for layer in taken if all(later in taken for later in layers if later >= layer)]
    if not lasting:
        return Finding(f"{name}: patching does not show where the gender passes from the picture's tokens to the deciding one.", ABSENT)
    told = "; ".join(
        f"{row['direction']}: {with_interval(row, 'over_image', 'over_image_low', 'over_image_high')} nats more, of {figures_of(row['total'])} between twins"
        for row in of
        if row["layer"] == lasting[0]
    )
    said = f"from layer {lasting[0]} on the deciding token carries more of the gender than the picture's tokens (there {told})"
    return Finding(f"{name}: {said}, {of[0]['n_images']} pairs of scenes.", SHOWN)


def _lens(layers: Sequence[Row], language: str, shown: str) -> Finding:
    name = language_name(language)
    lens = [row for row in layers if row["panel"] == "lens" and row["language"] == language]
    women = {row["layer"]: number(row, "low") for row in lens if row["series"] == "woman"}
    men = {row["layer"]: number(row, "high") for row in lens if row["series"] == "man"}
    both = sorted(women.keys() & men.keys())
    if not both:
        return not_measured("the logit lens", language, None)
    parted = [layer for layer in both if (low := women[layer]) is not None and (high := men[layer]) is not None and low > 0 > high]
    # The first layer from which on all layers tell the two apart: one layer that happens to is no emergence.
    lasting = [layer for layer in parted if all(later in parted for later in both if later >= layer)]
    if not lasting:
        return Finding(f"{name}: the logit lens does not tell {shown} of women from {shown} of men in any last layers.", ABSENT)
    return Finding(f"{name}: from layer {lasting[0]} on the logit lens says woman for {shown} of women and man for {shown} of men.", SHOWN)
