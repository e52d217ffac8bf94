"""Figures of a result: matrices and pairs, as Matplotlib figures that a notebook can use as well.

Pure functions of arrays: no files, no results, no pyplot and so no global state. Colours of lines
and text are those of `Ink`, so that a page can give them its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1 import make_axes_locatable  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray

from bigcorr.report.ordering import Clusters, Kind, cluster

FloatArray = NDArray[np.float64]

INK = "#52606d"
"""Lines and text: legible on white, and replaced by the page's own colour in a report."""

_MISSING = (0.5, 0.5, 0.5, 0.25)
_MARK = "#1f2933"
_LABELLED = 80
_DRAWN_TREE = 400
_LEVELS = 64


def heatmap(
    matrix: ArrayLike,
    names: Sequence[str],
    others: Sequence[str] | None = None,
    *,
    kind: Kind = "similarity",
    label: str = "",
    max_cells: int = 720,
    clusters: Clusters | None = None,
) -> Figure:
    """Draw a pair matrix with similar channels together.

    Parameters
    ----------
    matrix : array_like, shape (channel, other)
        A square matrix of all channels, or some channels against all.
    names, others : names of the rows and of the columns; by default the columns are the rows.
    kind : "similarity" or "distance".
    label : name of the measure, beside the colour bar.
    max_cells : a larger matrix is binned down to at most so many rows and columns, by means.
    clusters : what `cluster` gave for a square matrix, where it is known; labelled ones are drawn
        around the diagonal, with their numbers.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> figure = heatmap([[1.0, 0.8, 0.1], [0.8, 1.0, 0.0], [0.1, 0.0, 1.0]], ["a", "b", "c"])
    >>> figure.savefig("heatmap.png")  # doctest: +SKIP
    """
    values = np.asarray(matrix, dtype=np.float64)
    square = others is None or list(others) == list(names)
    columns = list(names if others is None else others)
    tree = None
    if square:
        clusters = clusters or cluster(values, kind)
        rows = order = clusters.order
        tree = clusters.linkage if len(order) <= _DRAWN_TREE else None
        colours, low, high = _colour_limits(values[~np.eye(len(values), dtype=bool)], kind)
        side = 4.2 if len(order) < 24 else 6.0
        size = (side, side)
    else:
        rows, order = np.arange(len(values)), _by_mean(values, kind)
        colours, low, high = _colour_limits(values, kind)
        size = (7.0, 0.8 + 0.22 * min(len(rows), 24))
    shown = _binned(values[np.ix_(rows, order)], max_cells)

    figure = Figure(figsize=size)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    image = axes.imshow(
        np.ma.masked_invalid(shown),
        cmap=colours,
        norm=Normalize(low, high),
        interpolation="none",
        aspect="equal" if square else "auto",
        extent=(-0.5, len(order) - 0.5, len(rows) - 0.5, -0.5),
    )
    _name_ticks(axes, [names[i] for i in rows], [columns[i] for i in order])
    if square and clusters is not None and clusters.labels is not None:
        _outline(axes, clusters.labels[order])
    # Beside the matrix itself, so that they keep to it whatever its aspect.
    around = make_axes_locatable(axes)
    if tree is not None:
        _draw_tree(around.append_axes("top", size="11%", pad=0.04), tree, len(order))
    _colour_bar(figure, image, around.append_axes("right", size=0.11, pad=0.12), label)
    return figure


def pair_panel(
    a: ArrayLike,
    b: ArrayLike,
    ncc: ArrayLike,
    names: tuple[str, str],
    *,
    label: str = "local NCC",
) -> Figure:
    """Draw two grids and the map of their local similarity side by side.

    Parameters
    ----------
    a, b : array_like, shape (y, x)
        What is shown; NaN is left blank. Each has its own colours, up to its 99.5 % quantile.
    ncc : array_like, shape (y, x)
        In [-1, 1].
    names : of the two grids.
    label : of the map.
    """
    grids = [np.asarray(x, dtype=np.float64) for x in (a, b, ncc)]
    h, w = grids[0].shape
    width = 9.6
    figure = Figure(figsize=(width, min(max(width / 3.3 * h / w, 0.8), 8.0)))
    axes = figure.subplots(1, 3, gridspec_kw={"wspace": 0.2})
    density, signed = with_missing("magma", _LEVELS), with_missing("RdBu_r", _LEVELS)
    scales = [(density, *_density_limits(grid)) for grid in grids[:2]] + [(signed, -1.0, 1.0)]
    for axis, grid, title, scale in zip(axes, grids, (*names, label), scales, strict=True):
        image = axis.imshow(
            np.ma.masked_invalid(grid),
            cmap=scale[0],
            norm=Normalize(*scale[1:]),
            interpolation="none",
        )
        axis.set_title(title, fontsize=9, color=INK, loc="left")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        beside = make_axes_locatable(axis).append_axes("right", size=0.07, pad=0.06)
        _colour_bar(figure, image, beside, "")
    return figure


def _binned(values: FloatArray, most: int) -> FloatArray:
    """Means of blocks, so that neither side is longer than `most`; NaN is left out."""
    steps = [-(-n // most) for n in values.shape]
    if max(steps) == 1:
        return values
    known = np.isfinite(values)
    total, count = np.where(known, values, 0.0), known.astype(np.float64)
    for axis, step in enumerate(steps):
        starts = np.arange(0, values.shape[axis], step)
        total = np.add.reduceat(total, starts, axis=axis)
        count = np.add.reduceat(count, starts, axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _colour_limits(values: FloatArray, kind: Kind) -> tuple[Colormap, float, float]:
    """Colours about zero where values have both signs, else from the least to the greatest."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return with_missing("RdBu_r"), -1.0, 1.0
    low, high = np.quantile(finite, [0.002, 0.998])
    if kind == "similarity" and low < 0:
        most = float(max(-low, high, 1e-12))
        return with_missing("RdBu_r"), -most, most
    if not high > low:
        low, high = float(finite.min()) - 0.5, float(finite.max()) + 0.5
    name = "cividis" if kind == "similarity" else "cividis_r"
    return with_missing(name), float(low), float(high)


def _density_limits(grid: FloatArray) -> tuple[float, float]:
    """From 0, or the least value below it, to the 99.5 % quantile: single peaks hide nothing."""
    finite = grid[np.isfinite(grid)]
    if finite.size == 0:
        return 0.0, 1.0
    low = min(float(finite.min()), 0.0)
    high = float(np.quantile(finite, 0.995))
    high = high if high > low else float(finite.max())
    return low, high if high > low else low + 1.0


def _by_mean(values: FloatArray, kind: Kind) -> NDArray[np.intp]:
    """Columns by the mean of their known values, most similar first, unknown ones last."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return np.argsort(-mean if kind == "similarity" else mean, kind="stable")


def with_missing(name: str, levels: int = 256) -> Colormap:
    """A colour map with grey for what is missing; fewer levels make smaller pictures."""
    return colormaps[name].resampled(levels).with_extremes(bad=_MISSING)


def _name_ticks(axes: Axes, rows: list[str], columns: list[str]) -> None:
    for axis, labels in ((axes.yaxis, rows), (axes.xaxis, columns)):
        if len(labels) <= _LABELLED:
            font = 8.0 if len(labels) <= 32 else 5.2
            axis.set_ticks(range(len(labels)), labels, fontsize=font, color=INK)
        else:
            axis.set_ticks([])
            axis.set_label_text(f"{len(labels):,} channels", color=INK, fontsize=8)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def _outline(axes: Axes, labels: NDArray[np.int64]) -> None:
    """Squares around the clusters of more than one channel; numbers where there is room."""
    from matplotlib.patches import Rectangle

    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(labels)], strict=True):
        size = int(stop - start)
        if size < 2 or labels[start] == 0:
            continue
        corner = (start - 0.5, start - 0.5)
        # Dark on light, whatever the page: a map has its own colours below.
        for colour, width in (("white", 2.0), (_MARK, 0.9)):
            axes.add_patch(
                Rectangle(corner, size, size, fill=False, edgecolor=colour, linewidth=width)
            )
        if size >= 0.025 * len(labels):
            right = stop - 0.5 + 0.012 * len(labels)
            beside = right if stop < 0.95 * len(labels) else start - 0.5 - 0.012 * len(labels)
            side = "left" if beside == right else "right"
            axes.text(
                beside,
                (start + stop - 1) / 2,
                str(labels[start]),
                color=_MARK,
                fontsize=7.5,
                ha=side,
                va="center",
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},
            )


def _draw_tree(axes: Axes, tree: FloatArray, leaves: int) -> None:
    from matplotlib.collections import LineCollection
    from scipy.cluster.hierarchy import dendrogram

    drawn = dendrogram(tree, no_plot=True)
    # SciPy places leaf i at 10 i + 5.
    lines = [
        np.column_stack([(np.array(x) - 5) / 10, y])
        for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    ]
    axes.add_collection(LineCollection(lines, colors=INK, linewidths=0.7 if leaves < 120 else 0.4))
    axes.set_xlim(-0.5, leaves - 0.5)
    axes.set_ylim(0, max(float(tree[:, 2].max()) * 1.02, 1e-9))
    axes.set_axis_off()


def _colour_bar(figure: Figure, image: ScalarMappable, axes: Axes, label: str) -> None:
    bar = figure.colorbar(image, cax=axes, ticks=MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7, labelcolor=INK, pad=3)
    bar.set_label(label, color=INK, fontsize=8)
