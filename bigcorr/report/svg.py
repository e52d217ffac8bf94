"""Matplotlib figures as inline SVG that takes the colours and the font of the page around it."""

from __future__ import annotations

import base64
import io
import re
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PNG = re.compile(r'(data:image/png;base64,)([^"]+)"')


def figure_svg(figure: Figure, label: str, prefix: str) -> str:
    """A figure as inline SVG: text stays text, lines and text take the page's colour.

    Parameters
    ----------
    figure : drawn with `figures.INK` for what the page colours.
    label : what a screen reader says.
    prefix : keeps the ids of several figures on one page apart.
    """
    from matplotlib import rc_context

    from bigcorr.report.figures import INK

    text = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata=metadata)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Equal pictures get equal ids, which nothing refers to.
    svg = re.sub(r'(<image\b[^>]*?) id="[^"]*"', r"\1", svg)
    svg = _PNG.sub(lambda found: f'{found[1]}{_smaller(found[2])}"', svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def _smaller(encoded: str) -> str:
    """The same picture with a palette, if its colours fit in one: a third of the bytes."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        pixels = np.array(picture.convert("RGBA")).view(np.uint32)[..., 0]
    found, codes = np.unique(pixels, return_inverse=True)
    if len(found) > 256:
        return encoded
    colours = found[:, None].view(np.uint8)
    indexed = Image.fromarray(codes.astype(np.uint8), "P")
    indexed.putpalette(colours[:, :3].tobytes())
    out = io.BytesIO()
    indexed.save(out, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return base64.b64encode(out.getvalue()).decode()
