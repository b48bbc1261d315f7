"""Pictures inside the page: SVG that follows light and dark, and small images as data."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

from saebias.corpus.images import UNREADABLE
from saebias.errors import InputError
from saebias.plots import style

# Colours of the figures that the page sets by its own variables, so that one picture serves light and dark.
PAGE_COLOURS = {style.INK: "--ink", style.MUTED: "--muted", style.GRID: "--grid", style.PAPER: "--card", style.BAND: "--band", style.ACCENT: "--accent"}
PAGE_COLOURS |= {style.LANGUAGE_COLOURS["en"]: "--english", style.LANGUAGE_COLOURS["ar"]: "--arabic", "#882255": "--wine"}


def inline_svg(svg: str, name: str, title: str) -> str:
    """`svg` for use inside HTML: no prolog, no metadata, ids of its own, scaled by the page, colours by the page's variables."""
    start = svg.find("<svg")
    if start < 0:
        raise InputError(f"figure {name}: the text is not an SVG picture; draw it again")
    body = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>|<!--.*?-->", "", svg[start:], flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\1{name}-", body)
    head, _, rest = body.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    for colour, variable in PAGE_COLOURS.items():
        rest = rest.replace(colour, f"var({variable})")
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'{head} role="img" aria-label="{label}">{rest}'


def data_uri(content: bytes, media_type: str) -> str:
    """`content` as a data address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def image_uri(image: bytes, name: str) -> str:
    """A PNG or JPEG picture as a data address; raises InputError for anything else."""
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return data_uri(image, "image/png")
    if image.startswith(b"\xff\xd8\xff"):
        return data_uri(image, "image/jpeg")
    raise InputError(f"picture of {name} is neither PNG nor JPEG; make it with thumbnail()")


def thumbnail(path: Path, side: int = 160) -> bytes:
    """The picture at `path` as PNG bytes, at most `side` pixels on its longer side; raises InputError when it cannot be read."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGBA" if "A" in image.getbands() else "RGB")
    except UNREADABLE as error:
        raise InputError(f"picture {path} cannot be read ({error}); leave it out of the scenes") from error
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.quantize(128).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
