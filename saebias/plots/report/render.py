"""The report as one HTML text: templates filled with rows, figures and sentences; nothing is fetched when it is read."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from saebias.errors import InputError
from saebias.identifiers import LANGUAGES
from saebias.plots.directions import plotly_bundle
from saebias.plots.report.data import ReportData, Scene, SceneCaption
from saebias.plots.report.definitions import DEFINITIONS
from saebias.plots.report.findings import can_it_be_removed, is_it_biased, verdicts
from saebias.plots.report.located import where_is_it
from saebias.plots.report.pictures import data_uri, image_uri, inline_svg
from saebias.plots.style import language_name
from saebias.plots.tables import Row, number

FOLDER = Path(__file__).parent
RIGHT_TO_LEFT = ("ar", "fa", "he", "ur")
ROLES = ("reference", "greedy", "steered")


def render_report(data: ReportData) -> str:
    """The whole report as HTML text: one file that works offline, on a phone, in the dark and on paper.

    Raises InputError when there is neither a number nor a figure to report, or a scene's picture is not PNG or JPEG.
    """
    if not data.summary and not data.figures:
        raise InputError("the report has no number and no figure to show; run analyze first")
    page = _environment().get_template("report.html.jinja")
    return page.render(
        data=data,
        biased=is_it_biased(data),
        located=where_is_it(data),
        removable=can_it_be_removed(data),
        verdicts=verdicts(data),
        summary=side_by_side(data.summary),
        summary_languages=[code for code in (*LANGUAGES, "ar-en") if any(row["language"] == code for row in data.summary)],
        planted=[row for row in data.professions if row["planted_en"] is not None or row["planted_ar"] is not None],
        plant_fit=[row for row in data.summary if row["metric"] in ("plant_rmse", "plant_slope")],
        reported=sorted((row for row in data.steering if row["split"] == "report"), key=_arm_order),
        longest=max((row["seconds"] for row in data.timings if row["seconds"] is not None), default=0),
        definitions=DEFINITIONS,
        css=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup((FOLDER / "script.js.jinja").read_text(encoding="utf-8")),
        plotly_packed=_packed_plotly() if data.interactive else "",
    )


def _environment() -> Environment:
    """Templates of this folder: what is not known is an error, all text is escaped."""
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    helpers: dict[str, Any] = {
        "inline_svg": safe_svg,
        "csv_uri": csv_uri,
        "image_uri": image_uri,
        "script_json": script_json,
        "decimal": decimal,
        "place": place_of_share,
        "language_name": language_name,
        "direction": direction,
        "by_language": by_language,
        "changed_words": changed_words,
        "covered": covered,
    }
    environment.globals.update(helpers)
    return environment


def csv_uri(text: str) -> str:
    """CSV text as a data address."""
    return data_uri(text.encode("utf-8"), "text/csv;charset=utf-8")


def script_json(text: str) -> Markup:
    """JSON that may stand inside a script element: no text in it can close the element."""
    return Markup(text.replace("<", "\\u003c"))


def safe_svg(svg: str, name: str, title: str) -> Markup:
    """A figure for the page; drawn by this program, so it is not escaped."""
    return Markup(inline_svg(svg, name, title))


def place_of_share(share: float) -> float:
    """Where a share lies on the 150 units of the small bars."""
    return round(5 + 140 * min(1.0, max(0.0, share)), 1)


def direction(code: str) -> str:
    """The writing direction of a language."""
    return "rtl" if code in RIGHT_TO_LEFT else "ltr"


def side_by_side(summary: Sequence[Row]) -> list[dict[str, object]]:
    """The summary with the languages in one line per number and gender shown."""
    lines: dict[tuple, dict[str, Row]] = {}
    for row in sorted(summary, key=lambda row: row["place"]):
        lines.setdefault((row["metric"], row["image_shows"]), {})[row["language"]] = row
    told = []
    for (metric, shown), rows in lines.items():
        first = next(iter(rows.values()))
        images = sorted({row["n_images"] for row in rows.values()})
        line = {"label": first["label"] or metric.replace("_", " "), "image_shows": shown, "rows": rows, "unit": first["unit"] or ""}
        told.append(line | {"images": " / ".join(f"{number:,}" for number in images)})
    return told


def decimal(value: float, digits: int = 3) -> str:
    """A number as tables write it, with a true minus."""
    return f"{value:.{digits}f}".replace("-", "\u2212")


def covered(row: Row, code: str) -> str:
    """Whether the interval of one language holds its planted share."""
    planted, low, high = (number(row, f"{column}_{code}") for column in ("planted", "low", "high"))
    if planted is None or low is None or high is None:
        return "not known"
    return "yes" if low <= planted <= high else "no"


def by_language(scene: Scene) -> list[tuple[str, list[SceneCaption]]]:
    """The captions of a scene by language, reference before the model's own before steered ones; raises InputError for an unknown role."""
    for part in scene.captions:
        if part.role not in ROLES:
            raise InputError(f"scene {scene.sample_id}: a caption has the role {part.role!r}; roles are {', '.join(ROLES)}")
    codes = [*LANGUAGES, *sorted({part.language for part in scene.captions} - set(LANGUAGES))]
    groups = [(code, sorted((part for part in scene.captions if part.language == code), key=lambda part: ROLES.index(part.role))) for code in codes]
    return [(code, parts) for code, parts in groups if parts]


def changed_words(scene: Scene, part: SceneCaption) -> Markup:
    """A caption as HTML; in a steered one the words that the model did not say before are marked."""
    before = next((other.text for other in scene.captions if other.language == part.language and other.role == "greedy"), None)
    if part.role != "steered" or before is None:
        return escape(part.text)
    words = part.text.split()
    pieces: list[Markup] = []
    for kind, _, _, start, end in SequenceMatcher(None, before.split(), words, autojunk=False).get_opcodes():
        if start < end:
            text = escape(" ".join(words[start:end]))
            pieces.append(text if kind == "equal" else Markup("<mark>{}</mark>").format(text))
    return Markup(" ").join(pieces)


def _arm_order(row: Row) -> tuple:
    return (
        LANGUAGES.index(row["language"]) if row["language"] in LANGUAGES else len(LANGUAGES),
        len(row["arm"]),
        row["arm"],
        row["target"] or "",
        row["strength"],
    )


def _packed_plotly() -> str:
    """The plotting program, compressed: a third of its size, and the page opens before it is unpacked."""
    return base64.b64encode(gzip.compress(plotly_bundle().encode("utf-8"), 6, mtime=0)).decode("ascii")
