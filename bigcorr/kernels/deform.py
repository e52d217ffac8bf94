"""One tile of an image deformed by a flow: a cubic B-spline of the image, and one of the flow.

The prefilter of the image's spline is its impulse response, cut where it is below 1e-9, so that
where tiles are cut changes no bit. The flow is given at nodes and smoothed as it is interpolated:
its spline has no prefilter, so that at a node it is (1, 4, 1) / 6 of the values along each axis.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.gaussian import blur_tile
from bigcorr.kernels.jit import njit
from bigcorr.tiles import Box, Shape

REACH = 16
"""Pixels that the prefilter's impulse response reaches."""

FILL = 8
"""How far pixels are looked for that stand in for a missing one."""

SUPPORT = 2
"""Pixels, or nodes, beyond a place that its 4 x 4 reach."""

_POLE = math.sqrt(3) - 2


class Nodes(NamedTuple):
    """A part of a flow that is given on a grid of nodes.

    values : (2, n, m) float64, (dy, dx); all finite.
    origin : of the first of them on the grid.
    shape : of the grid; beyond it the flow is that of its outermost nodes.
    first : row and column of the grid's first node.
    step : pixels from node to node.
    """

    values: NDArray[np.float64]
    origin: Shape
    shape: Shape
    first: tuple[float, float]
    step: float


def needed_nodes(box: Box, shape: Shape, first: tuple[float, float], step: float) -> Box:
    """The nodes of a grid that `flow_at` looks at for the pixels of a box."""
    spans = []
    for start, stop, n, at in (
        (box.y0, box.y1, shape[0], first[0]),
        (box.x0, box.x1, shape[1], first[1]),
    ):
        low = math.floor((start - at) / step) - SUPPORT
        high = math.floor((stop - 1 - at) / step) + SUPPORT + 2
        low = min(max(low, 0), n - 1)
        spans += [low, max(min(high, n), low + 1)]
    return Box(*spans)


def flow_at(nodes: Nodes, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The flow at all places of a grid of rows `ys` and columns `xs`.

    Returns
    -------
    ndarray of float64, shape (2, len(ys), len(xs))

    Examples
    --------
    >>> nodes = Nodes(np.full((2, 3, 3), 1.5), (0, 0), (3, 3), (4.0, 4.0), 8.0)
    >>> flow_at(nodes, np.array([0.0, 9.0]), np.array([5.0])).round(6).ravel()
    array([1.5, 1.5, 1.5, 1.5])
    """
    out = np.empty((2, ys.size, xs.size))
    if nodes.values.shape[1:] == (1, 1):  # the same everywhere, to the last bit
        out[...] = nodes.values
        return out
    _flow_at(
        nodes.values, *nodes.origin, *nodes.shape, *nodes.first, float(nodes.step), ys, xs, out
    )
    return out


def spline_coefficients(
    padded: NDArray[np.float64], missing: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """The coefficients of a tile's cubic spline.

    Parameters
    ----------
    padded : ndarray of float64, shape (h + 48, w + 48)
        The tile with a halo of ``REACH + FILL`` pixels.
    missing : ndarray of bool, same shape, or None
        Such pixels are given means of what is near, 0 where nothing is: no value beside them is
        used, this only bounds what others see of them through the prefilter.

    Returns
    -------
    ndarray of float64, shape (h, w)
    """
    inner = (slice(FILL, -FILL),) * 2
    if missing is None:
        pixels = np.ascontiguousarray(padded[inner])
    else:
        taps = 0.5 ** np.abs(np.arange(-FILL, FILL + 1.0))
        kept = np.where(missing, 0.0, padded)
        weight = blur_tile((~missing).astype(np.float64), taps, taps)
        near = blur_tile(kept, taps, taps) / np.maximum(weight, np.finfo(float).tiny)
        pixels = np.where(missing[inner], near, kept[inner])
    taps = _POLE ** np.abs(np.arange(-REACH, REACH + 1.0))
    taps /= taps.sum()
    return blur_tile(pixels, taps, taps)


def deform(
    coefficients: NDArray[np.float64],
    known: NDArray[np.bool_] | None,
    held: Box,
    shape: Shape,
    flow: NDArray[np.float64],
    box: Box,
) -> NDArray[np.float64]:
    """``out[y, x] = moving[y + dy, x + dx]`` for the pixels of a box.

    Parameters
    ----------
    coefficients : ndarray of float64, shape ``held.shape``
        Of the moving image's spline.
    known : ndarray of bool, same shape
        Where it has pixels; None: everywhere.
    held : Box
        Where they lie on the raster; it holds `SUPPORT` pixels about every place that is wanted.
    shape : (int, int)
        Of the raster; what comes from outside is NaN.
    flow : ndarray of float64, shape (2, *box.shape)
    box : Box
        Of the result; it may reach outside.

    Returns
    -------
    ndarray of float64, shape ``box.shape``
        NaN where one of the 4 x 4 pixels about a place is missing.
    """
    out = np.empty(box.shape)
    mask = np.ones((1, 1), np.uint8) if known is None else known.astype(np.uint8)
    _deform(
        coefficients, mask, known is not None, held.y0, held.x0, *shape, flow, box.y0, box.x0, out
    )
    return out


@njit(cache=True, nogil=True)
def _weights(t: float) -> tuple[float, float, float, float]:
    """Of the four neighbours of a place that lies `t` after the second of them."""
    u = 1 - t
    return (
        u * u * u / 6,
        (4 - 6 * t * t + 3 * t * t * t) / 6,
        (4 - 6 * u * u + 3 * u * u * u) / 6,
        t * t * t / 6,
    )


@njit(cache=True, nogil=True)
def _flow_at(
    values: NDArray[np.float64],
    origin_y: int,
    origin_x: int,
    rows: int,
    columns: int,
    first_y: float,
    first_x: float,
    step: float,
    ys: NDArray[np.float64],
    xs: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    m = values.shape[2]
    line = np.empty((2, m))
    at = np.empty(4, np.int64)
    for i in range(ys.size):
        v = min(max((ys[i] - first_y) / step, -1.0), float(rows))
        k = math.floor(v)
        a, b, c, d = _weights(v - k)
        for p in range(4):
            at[p] = min(max(k - 1 + p, 0), rows - 1) - origin_y
        for axis in range(2):
            for j in range(m):
                before = a * values[axis, at[0], j] + b * values[axis, at[1], j]
                after = c * values[axis, at[2], j] + d * values[axis, at[3], j]
                line[axis, j] = before + after
        for j in range(xs.size):
            v = min(max((xs[j] - first_x) / step, -1.0), float(columns))
            k = math.floor(v)
            a, b, c, d = _weights(v - k)
            for p in range(4):
                at[p] = min(max(k - 1 + p, 0), columns - 1) - origin_x
            for axis in range(2):
                before = a * line[axis, at[0]] + b * line[axis, at[1]]
                after = c * line[axis, at[2]] + d * line[axis, at[3]]
                out[axis, i, j] = before + after


@njit(cache=True, nogil=True)
def _deform(
    image: NDArray[np.float64],
    known: NDArray[np.uint8],
    masked: bool,
    origin_y: int,
    origin_x: int,
    rows: int,
    columns: int,
    flow: NDArray[np.float64],
    y0: int,
    x0: int,
    out: NDArray[np.float64],
) -> None:
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            y, x = y0 + i + flow[0, i, j], x0 + j + flow[1, i, j]
            out[i, j] = np.nan
            if not (y >= 0 and x >= 0 and y <= rows - 1 and x <= columns - 1):
                continue
            fy, fx = math.floor(y), math.floor(x)
            top, left = fy - 1 - origin_y, fx - 1 - origin_x
            if masked:
                whole = True
                for u in range(top, top + 4):
                    for w in range(left, left + 4):
                        whole &= known[u, w] != 0
                if not whole:
                    continue
            wy, wx = _weights(y - fy), _weights(x - fx)
            total = 0.0
            for u in range(4):
                part = 0.0
                for w in range(4):
                    part += wx[w] * image[top + u, left + w]
                total += wy[u] * part
            out[i, j] = total
