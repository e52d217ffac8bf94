"""One HTML page about a displacement: arrows over the image, its maps, its residuals, its numbers.

Assembly only: nodes and numbers come from `motion`, figures from `motion_figures`.
"""

from __future__ import annotations

import os
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError, MissingFileError
from bigcorr.motion.stored import displacement_at, facts_of_found
from bigcorr.raster.damaged import naming_damage
from bigcorr.raster.whole_file import whole_file
from bigcorr.report.motion import Nodes, common_motion, in_a_sentence, kept_nodes, numbers_of
from bigcorr.report.svg import figure_svg

if TYPE_CHECKING:
    import xarray as xr

    from bigcorr.raster import RasterSource

_VIEW = 480
"""Pixels of the picture's longer side."""


def write_displacement_report(
    result: str | os.PathLike[str] | xr.Dataset,
    out_html: str | os.PathLike[str],
    *,
    reference: Any = None,
) -> Path:
    """Write what a displacement found as one HTML file.

    Parameters
    ----------
    result : path of the store of ``bigcorr displacement``, or the Dataset of `displacement`.
    out_html : the file to write; it appears whole or not at all.
    reference : what the arrows are drawn over, as `as_source` takes it. By default the image that
        the store names; where it is not there any more the page says so and does without.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        `result` is no displacement, or its nodes do not lie on `reference`.
    MissingFileError
        There is no such folder.
    RunError
        The file could not be written, or a chunk could not be read.
    """
    path = Path(out_html)
    if not path.parent.is_dir():
        raise MissingFileError(f"{path}: no such folder: {path.parent}")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    found = displacement_at(result) if isinstance(result, (str, os.PathLike)) else result
    if found is None or not {"dy", "dx", "score", "peak_ratio"} <= set(found.data_vars):
        raise InputError(
            f"{result if found is None else 'result'} is no displacement: takes what "
            "`bigcorr displacement` wrote, or what bigcorr.displacement returned"
        )
    facts = facts_of_found(found)
    with naming_damage(found):
        nodes = kept_nodes(found)
    source, absent = _find_reference(nodes, facts, reference)
    page = _page(nodes, facts, source, absent)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _find_reference(
    nodes: Nodes, facts: dict[str, Any], given: Any
) -> tuple[RasterSource | None, str]:
    """The image to draw over, or None and the reason in a sentence."""
    from bigcorr.raster.source import as_source, open_source

    if given is not None:
        source = as_source(given)
        if why := _unfit(source, nodes):
            raise InputError(f"reference: got {source.path} {why}")
        return source, ""
    named = (facts["sources"] or [None])[0]
    if named is None:
        return None, "The result does not name its image; give it as the reference."
    try:
        source = open_source(named)
    except (InputError, OSError) as error:
        return None, f"The image could not be opened ({error})."
    why = _unfit(source, nodes)
    return (
        (None, f"The image is not the one that was searched: {named} {why}.")
        if why
        else (
            source,
            "",
        )
    )


def _unfit(source: RasterSource, nodes: Nodes) -> str:
    """Why the nodes cannot lie on an image; empty if they can."""
    if source.shape[0] != 1:
        return f"with {source.shape[0]} channels, takes one of them, as PATH#CHANNEL"
    if nodes.y[-1] > source.shape[1] or nodes.x[-1] > source.shape[2]:
        return f"of {source.shape[1]} x {source.shape[2]} pixels, takes one that holds all nodes"
    return ""


def _page(nodes: Nodes, facts: dict[str, Any], source: RasterSource | None, absent: str) -> str:
    from bigcorr.report import motion_figures as figures

    picture, factor = _picture(source, nodes)
    said = escape(absent) + " " if absent else ""
    thinned = "" if nodes.every == 1 else f" Every {nodes.every}th node along each axis is shown."
    sections = []
    if np.isfinite(nodes.dy).any():
        arrows = "Where each part of the image lies in the other."
        parts = [(said + arrows, figures.arrows(nodes, picture, factor))]
        common = common_motion(nodes)
        if common is not None:
            told = "The same less the median motion of ({:.3f}, {:.3f}) pixels (y, x).".format(
                *common
            )
            parts.append((told, figures.arrows(nodes, picture, factor, common)))
        sections.append(("Motion", parts))
        told = "Along y and along x, in pixels; grey where there is no vector."
        if common is not None:
            told = "Along y and along x less the median, in pixels; grey where there is no vector."
        maps = figures.motion_maps(nodes, common or (0.0, 0.0))
        sections.append(("Motion along each axis", [(told + thinned, maps)]))
        told = (
            "Left the correlation of each window with its best match. Right how many times that is "
            "the best elsewhere: near 1 the match might as well be another."
        )
        sections.append(("How sure it is", [(told, figures.certainty_maps(nodes))]))
        told = (
            "How far from its node the way there and back ends."
            if nodes.both_ways
            else "How far each vector is from the median of the eight about it."
        )
        sections.append(("Residuals", [(told, figures.residual_histogram(nodes))]))
    body, number = [], 0
    for title, parts in sections:
        body.append(f"<section><h2>{title}</h2>")
        for told, figure in parts:
            svg = figure_svg(figure, title, f"d{number}")
            body.append(f"<figure><figcaption>{told}</figcaption>{svg}</figure>")
            number += 1
        body.append("</section>")
    title = "What moved"
    if facts["sources"]:
        names = [escape(Path(name).name) for name in facts["sources"]]
        title = f"What moved from {names[0]} to {names[1]}"
    style = (resources.files("bigcorr.report") / "assets" / "report.css").read_text("utf-8")
    rows = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in numbers_of(nodes, facts)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="soft">{escape(in_a_sentence(nodes, facts))}</p>
</header>
<main>
<section><h2>In numbers</h2><dl>{rows}</dl></section>
{"".join(body)}
</main>
</body>
</html>
"""


def _picture(source: RasterSource | None, nodes: Nodes) -> tuple[NDArray[np.float64] | None, float]:
    """Block means of the image, if there is one, and how many pixels the side of a block has."""
    if source is None:
        return None, 1.0
    from bigcorr.report.views import block_means

    view = block_means(source, [0], _VIEW)
    return view.grids[0], float(view.factor)
