"""Figures of a displacement: arrows over its image, maps of its numbers, a histogram.

Pure functions of nodes in memory: no files, no pyplot and so no global state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1 import make_axes_locatable  # type: ignore[import-untyped]
from numpy.typing import NDArray

from bigcorr.report.figures import INK, with_missing
from bigcorr.report.motion import Nodes, median_of_known

_WIDTH = 7.2
_PANELS = 9.2
_ARROWS = 36
_LEVELS = 64
_ARROW = "#e8590c"
"""Inches of a figure, and of one with two panels; arrows along the longer side; colours of a map;
colour of arrows."""


def arrows(
    nodes: Nodes,
    picture: NDArray[Any] | None,
    factor: float,
    less: tuple[float, float] = (0.0, 0.0),
) -> Figure:
    """The motion as arrows over the image, each the median of the nodes about its foot.

    Parameters
    ----------
    nodes : Nodes
    picture : ndarray, shape (y, x), or None
        Means of blocks of `factor` pixels of the reference.
    factor : float
    less : (float, float)
        A motion (dy, dx) that is taken off all arrows.
    """
    every = max(1, -(-max(nodes.dy.shape) // _ARROWS))
    groups = [
        _medians(each, every) - off for each, off in zip((nodes.dy, nodes.dx), less, strict=True)
    ]
    y, x = (
        np.array([place[k : k + every].mean() for k in range(0, len(place), every)])
        for place in (nodes.y, nodes.x)
    )
    dy, dx = groups
    known = np.isfinite(dy) & np.isfinite(dx)
    lengths = np.hypot(dy[known], dx[known])
    long = float(np.quantile(lengths, 0.95)) if lengths.size else 0.0
    apart = float(max(np.diff(y).min(initial=np.inf), np.diff(x).min(initial=np.inf)))
    apart = apart if math.isfinite(apart) else 32.0
    scale = apart / long if long > 0 else 1.0

    if picture is None:
        h, w = nodes.y[-1] + nodes.y[0] + 1, nodes.x[-1] + nodes.x[0] + 1
    else:
        h, w = (n * factor for n in picture.shape)
    figure = Figure(figsize=(_WIDTH, _WIDTH * h / w))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    if picture is not None:
        seen = picture[np.isfinite(picture)]
        low, high = np.quantile(seen, [0.005, 0.995]) if seen.size else (0.0, 1.0)
        axes.imshow(
            np.ma.masked_invalid(picture),
            cmap=with_missing("gray", _LEVELS),
            norm=Normalize(low, high if high > low else low + 1),
            interpolation="none",
            extent=(-0.5, w - 0.5, h - 0.5, -0.5),
        )
    rows, columns = np.nonzero(known)
    axes.quiver(
        x[columns],
        y[rows],
        scale * dx[known],
        scale * dy[known],
        angles="xy",
        scale_units="xy",
        scale=1,
        color=_ARROW,
        width=0.0028,
        headwidth=4,
        headlength=4.5,
        headaxislength=4,
    )
    longest = float(lengths.max()) if lengths.size else 0.0
    told = (
        f"arrows are {scale:.3g} times as long as the motion, the longest is {longest:.3g} pixels"
    )
    axes.set_title(told, fontsize=9, color=INK, loc="left")
    axes.set_xlim(-0.5, w - 0.5)
    axes.set_ylim(h - 0.5, -0.5)
    axes.set_axis_off()
    return figure


def motion_maps(nodes: Nodes, less: tuple[float, float] = (0.0, 0.0)) -> Figure:
    """dy and dx, less a motion that all have in common, in colours of one scale about zero."""
    off = [each - by for each, by in zip((nodes.dy, nodes.dx), less, strict=True)]
    known = np.abs(np.concatenate([each[np.isfinite(each)] for each in off]))
    most = float(np.quantile(known, 0.995)) if known.size else 0.0
    scale = (-most, most) if most > 0 else (-1.0, 1.0)
    return _panels(
        [(each, name, "RdBu_r", scale) for each, name in zip(off, ("dy", "dx"), strict=True)]
    )


def certainty_maps(nodes: Nodes) -> Figure:
    """Score and peak ratio, each on the range that nearly all nodes lie in."""
    panels = []
    for values, name, least in ((nodes.score, "score", None), (nodes.peak_ratio, "peak ratio", 1)):
        seen = values[np.isfinite(values)]
        low, high = np.quantile(seen, [0.01, 0.95]) if seen.size else (0.0, 1.0)
        low = float(low) if least is None else float(least)
        high = 1.0 if least is None else float(high)
        panels.append((values, name, "cividis", (low, high if high > low else low + 1)))
    return _panels(panels)


def residual_histogram(nodes: Nodes) -> Figure:
    """How many vectors are how far off, in pixels; what is beyond the last bin is in it."""
    figure = Figure(figsize=(_WIDTH, 2.4))
    axes = figure.add_axes((0.09, 0.2, 0.9, 0.78))
    off = nodes.residual[np.isfinite(nodes.residual)]
    most = float(np.quantile(off, 0.99)) if off.size else 0.0
    edges = np.linspace(0, most if most > 0 else 0.01, 49)
    axes.hist(np.minimum(off, edges[-1]), edges.tolist(), color="#1c7ed6")
    name = "pixels that the way back misses by" if nodes.both_ways else "pixels off the neighbours"
    axes.set_xlabel(f"{name} (the last bin: and more)", fontsize=8, color=INK)
    axes.set_ylabel("nodes", fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    return figure


def _panels(
    panels: list[tuple[NDArray[np.float32], str, str, tuple[float, float]]],
) -> Figure:
    h, w = panels[0][0].shape
    figure = Figure(figsize=(_PANELS, min(max(_PANELS / 2.2 * h / w, 0.8), 8.0)))
    axes = figure.subplots(1, 2, gridspec_kw={"wspace": 0.22})
    for axis, (values, title, colours, scale) in zip(axes, panels, strict=True):
        _map(figure, axis, values, title, colours, scale)
    return figure


def _map(
    figure: Figure,
    axes: Axes,
    values: NDArray[np.float32],
    title: str,
    colours: str,
    scale: tuple[float, float],
) -> None:
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=with_missing(colours, _LEVELS),
        norm=Normalize(*scale),
        interpolation="none",
    )
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    beside = make_axes_locatable(axes).append_axes("right", size=0.08, pad=0.06)
    bar = figure.colorbar(image, cax=beside)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7, labelcolor=INK, pad=3)


def _medians(values: NDArray[np.float32], every: int) -> NDArray[np.float32]:
    """Medians of square groups of nodes; NaN of those of which more than half have no vector."""
    h, w = (-(-n // every) for n in values.shape)
    padded = np.full((h * every, w * every), np.nan, np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    groups = padded.reshape(h, every, w, every).transpose(1, 3, 0, 2).reshape(-1, h, w)
    there = np.zeros(padded.shape, bool)
    there[: values.shape[0], : values.shape[1]] = True
    count = there.reshape(h, every, w, every).sum(axis=(1, 3))
    found = median_of_known(groups)
    found[2 * np.isfinite(groups).sum(axis=0) < count] = np.nan
    return np.asarray(found, np.float32)
