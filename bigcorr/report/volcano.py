"""The volcano: how large a value is against how sure it is, for all pairs at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from bigcorr.report.figures import INK

FloatArray = NDArray[np.float64]

LEVEL = 0.05
_SCATTERED = 4000
_BINS = (160, 80)
_LEAST = 1e-300
_TICKS = (1.0, LEVEL, 1e-3, 1e-5, 1e-10, 1e-20, 1e-50, 1e-100, 1e-200, _LEAST)
# From pale to strong in one hue: legible on a light and on a dark page.
_DENSITY = LinearSegmentedColormap.from_list("density", ["#9ad0da", "#1693a5", "#0b4f5c"])
_POINT = "#1693a5"


class Marked(NamedTuple):
    """A pair to be named in the figure."""

    name: str
    value: float
    q: float


def volcano(
    value: ArrayLike, q: ArrayLike, marked: list[Marked] | None = None, *, label: str = ""
) -> Figure:
    """Draw the value of each pair against its q, the surest at the top.

    Parameters
    ----------
    value, q : array_like, shape (pair,)
        Pairs without a q are left out. Up to 4000 pairs are points, more are counted in cells.
    marked : pairs that are named.
    label : name of the measure.

    Returns
    -------
    matplotlib.figure.Figure
        The axis of q is that of the logarithm of its exponent, and ends at 1e-300.
    """
    x, found = (np.asarray(each, dtype=np.float64) for each in (value, q))
    known = np.isfinite(x) & np.isfinite(found)
    x, y = x[known], _height(found[known])
    figure = Figure(figsize=(9.6, 3.9))
    axes = figure.add_axes((0.07, 0.13, 0.73, 0.83))
    end = max(float(y.max(initial=0.0)), float(_height(np.array(0.001)))) * 1.04
    low, high = (float(x.min()), float(x.max())) if len(x) else (-1.0, 1.0)
    margin = 0.03 * (high - low) or 0.5
    low, high = low - margin, high + margin
    if len(x) <= _SCATTERED:
        axes.scatter(x, y, s=9, color=_POINT, alpha=0.45, linewidths=0, rasterized=True)
    else:
        counts = np.histogram2d(x, y, bins=_BINS, range=((low, high), (0, end)))[0]
        axes.imshow(
            np.ma.masked_equal(counts.T, 0),
            origin="lower",
            extent=(low, high, 0, end),
            aspect="auto",
            interpolation="none",
            cmap=_DENSITY,
            norm=LogNorm(1, max(float(counts.max()), 2)),
        )
    axes.set_xlim(low, high)
    axes.set_ylim(-0.02 * end, end)
    line = float(_height(np.array(LEVEL)))
    axes.axhline(line, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    _name(axes, marked or [], (low, high), end)
    axes.set_xlabel(label, color=INK, fontsize=9)
    axes.set_ylabel("q", color=INK, fontsize=9, rotation=0, labelpad=10)
    shown = [tick for tick in _TICKS if _height(np.array(tick)) <= end]
    axes.set_yticks([float(_height(np.array(tick))) for tick in shown], map(_worded, shown))
    axes.tick_params(labelsize=8, labelcolor=INK, color=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return figure


def _height(q: FloatArray) -> FloatArray:
    """Where a q stands: the logarithm of its exponent, since these run to hundreds."""
    height: FloatArray = np.log2(1 - np.log10(np.maximum(q, _LEAST)))
    return height


def _worded(q: float) -> str:
    if q >= LEVEL:
        return f"{q:g}"
    raised = f"{np.log10(q):.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{'≤ ' if q <= _LEAST else ''}10{raised}"


def _name(axes: Axes, marked: list[Marked], limits: tuple[float, float], end: float) -> None:
    """Names of pairs: beside the axes on the right, or above a pair in the left half."""
    height = np.inf
    for each in sorted(marked, key=lambda pair: (max(pair.q, _LEAST), -pair.value)):
        at = (each.value, float(_height(np.array(each.q))))
        axes.plot(*at, marker="o", markersize=4.5, markerfacecolor="none", color=INK, lw=0)
        line = {"arrowstyle": "-", "color": INK, "linewidth": 0.4, "shrinkB": 3, "relpos": (0, 0.5)}
        if each.value < sum(limits) / 2:
            axes.annotate(
                each.name,
                at,
                (0, 16),
                textcoords="offset points",
                fontsize=8,
                color=INK,
                va="center",
                arrowprops=line,
            )
            continue
        height = min(at[1], height - 0.062 * end)
        axes.annotate(
            each.name,
            at,
            (1.02, height),
            textcoords=axes.get_yaxis_transform(),
            fontsize=8,
            color=INK,
            va="center",
            arrowprops=line,
        )
