"""One HTML page about a registration: shifts over the image, agreement by cells, residuals.

The figures are functions of a `Registration` and a small picture; `write_registration_report` puts
them together with the numbers.
"""

from __future__ import annotations

import os
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import MissingFileError
from bigcorr.raster.whole_file import whole_file
from bigcorr.report.svg import figure_svg
from bigcorr.tiles import grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bigcorr.registration.result import Registration

_SIDE = 480
_BOX = 1024
_ARROW = 0.08
"""Pixels of a picture's longer side; side of the boxes that it is read by; length of the longest
arrow, as a share of that side."""


def shift_arrows(found: Registration, picture: NDArray[Any], step: int) -> Figure:
    """Each tile's own shift, less that of the whole, as arrows over the reference.

    Parameters
    ----------
    found : Registration
    picture : ndarray, shape (y, x)
        Every `step`-th pixel of the reference.
    step : int
    """
    from matplotlib.figure import Figure

    from bigcorr.report.figures import INK

    h, w = picture.shape
    figure = Figure(figsize=(6.4, 6.4 * h / w))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(np.ma.masked_invalid(picture), cmap="gray", interpolation="none")
    off = found.shifts - np.array(found.shift) if found.model == "affine" else found.residuals
    longest = float(np.hypot(*off[found.used].T).max()) if found.used.any() else 0.0
    scale = _ARROW * max(h, w) / longest if longest > 0 else 1.0
    y, x = found.centres.T / step
    for use, colour in ((found.used, "#e8590c"), (~found.used, "#868e96")):
        dy, dx = np.clip(off[use] * scale, -max(h, w), max(h, w)).T
        axes.quiver(
            x[use],
            y[use],
            dx,
            dy,
            angles="xy",
            scale_units="xy",
            scale=1,
            color=colour,
            width=0.004,
        )
    axes.set_title(f"longest arrow: {longest:.3g} pixels", fontsize=9, color=INK, loc="left")
    axes.set_xlim(-0.5, w - 0.5)
    axes.set_ylim(h - 0.5, -0.5)
    axes.set_axis_off()
    return figure


def score_map(found: Registration) -> Figure:
    """Correlation after the move by cells."""
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from bigcorr.report.figures import INK, with_missing

    rows, columns = found.scores.shape
    figure = Figure(figsize=(6.4, max(6.4 * rows / columns, 0.8)))
    axes = figure.add_axes((0.0, 0.0, 0.9, 1.0))
    image = axes.imshow(
        np.ma.masked_invalid(found.scores),
        cmap=with_missing("RdBu_r", 64),
        norm=Normalize(-1, 1),
        interpolation="none",
    )
    axes.set_axis_off()
    bar = figure.colorbar(image, cax=figure.add_axes((0.92, 0.0, 0.02, 1.0)))
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return figure


def residual_histogram(found: Registration) -> Figure:
    """How far the tiles that were used are off the result, along y and x."""
    from matplotlib.figure import Figure

    from bigcorr.report.figures import INK

    figure = Figure(figsize=(6.4, 2.4))
    axes = figure.add_axes((0.08, 0.2, 0.9, 0.78))
    off = found.residuals[found.used]
    most = float(np.abs(off).max()) if off.size else 0.0
    edges = np.linspace(-most, most, 32) if most > 0 else np.linspace(-0.01, 0.01, 32)
    for values, name, colour in zip(off.T, ("y", "x"), ("#1c7ed6", "#e8590c"), strict=True):
        axes.hist(values, edges.tolist(), histtype="step", label=name, color=colour)
    axes.set_xlabel("pixels off the result", fontsize=8, color=INK)
    axes.set_ylabel("tiles", fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_color(INK)
    return figure


def write_registration_report(
    found: Registration, out_html: str | os.PathLike[str], *, reference: Any, moving: Any
) -> Path:
    """Write what a registration found as one HTML file.

    Parameters
    ----------
    found : Registration
    out_html : the file to write; it appears whole or not at all.
    reference, moving : what was registered, as `as_source` takes it; the first is shown.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    MissingFileError
        There is no such folder.
    RunError
        The file could not be written.
    """
    from bigcorr.raster.source import as_source

    path = Path(out_html)
    if not path.parent.is_dir():
        raise MissingFileError(f"{path}: no such folder: {path.parent}")
    sources = [as_source(image) for image in (reference, moving)]
    picture, step = _picture(sources[0])
    parts = []
    for number, (title, told, figure) in enumerate(
        (
            ("Shifts of the tiles", _arrows_told(found), shift_arrows(found, picture, step)),
            (
                "Agreement after the move",
                f"Correlation by cells of {found.cell} pixels; grey where nothing is known of one.",
                score_map(found),
            ),
            (
                "Residuals",
                "How far the shift of each used tile is from what the result says of its middle.",
                residual_histogram(found),
            ),
        )
    ):
        svg = figure_svg(figure, title, f"r{number}")
        parts.append(
            f"<section><h2>{title}</h2><figure><figcaption>{told}</figcaption>{svg}</figure>"
            "</section>"
        )
    names = [escape(source.path) for source in sources]
    style = (resources.files("bigcorr.report") / "assets" / "report.css").read_text("utf-8")
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>How {names[1]} lies on {names[0]}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>How {names[1]} lies on {names[0]}</h1>
<p class="soft">{_told(found)}</p>
</header>
<main>
{"".join(parts)}
</main>
</body>
</html>
"""
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _told(found: Registration) -> str:
    """The result in a sentence or two."""
    dy, dx = found.shift
    text = (
        f"A shift of ({dy:.4f}, {dx:.4f}) pixels (y, x), to apply to the second image, brings "
        f"their correlation from {found.score_before:.4f} to {found.score:.4f}. "
        f"{int(found.used.sum())} of {len(found.used)} tiles were used."
    )
    if found.model == "affine":
        rows = [" ".join(f"{value:.6g}" for value in row) for row in found.matrix[:2]]
        text += f" It is that of the middle; the matrix is {'; '.join(rows)}."
    return text


def _arrows_told(found: Registration) -> str:
    less = "less that of the middle" if found.model == "affine" else "less that of the whole"
    return f"Each tile's own shift, {less}; grey where a tile was not used."


def _picture(source: Any) -> tuple[NDArray[np.float64], int]:
    """Every so many pixels of an image, read by boxes; NaN where they are missing."""
    h, w = source.shape[1:]
    step = -(-max(h, w) // _SIDE)
    picture = np.full((-(-h // step), -(-w // step)), np.nan)
    for box in grid((h, w), step * max(_BOX // step, 1)):
        pixels = source.read([0], box)[0][::step, ::step].astype(np.float64)
        valid = source.mask(box)
        if valid is not None:
            pixels[~valid[::step, ::step]] = np.nan
        if source.nodata is not None:
            pixels[pixels == source.nodata] = np.nan
        y, x = box.y0 // step, box.x0 // step
        picture[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return picture, step
