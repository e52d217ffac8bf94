"""Sums over square windows by a fixed tree, for tiles that stream through row by row.

Sums of 2, 4, 8, ... neighbours are made by doubling, and a window of any length is a fixed
combination of them: 7 = 4 + 2 + 1. Where a window lies does not enter, so its sum has the same
bits under any tiling, unlike a running sum that is carried along from the edge of the tile; and
the cost grows with the logarithm of the window. Compiled helpers only; `ncc` is built on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def tree_levels(window: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The plan of the tree for windows of `window` pixels.

    Returns
    -------
    depth : ndarray of int64, shape (levels,)
        Rows of level k (sums of ``2**k`` rows) that have to be kept: ``2**k + 1``.
    lag : ndarray of int64, shape (terms,) by level
        For each level, how many pixels behind the newest sum of that level its term of the window
        lies; -1 where the level is no term. The terms run from the highest level to the lowest.
    """
    levels = window.bit_length()
    depth = np.array([2**k + 1 for k in range(levels)], np.int64)
    lag = np.array(
        [window % 2**k if window >> k & 1 else -1 for k in range(levels)],
        np.int64,
    )
    return depth, lag


@njit(cache=True, nogil=True)
def _add(a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for j in range(out.size):
        out[j] = a[j] + b[j]


@njit(cache=True, nogil=True)
def _add_three(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    for j in range(out.size):
        out[j] = (a[j] + b[j]) + c[j]


@njit(cache=True, nogil=True)
def _add_to(a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for j in range(out.size):
        out[j] = (out[j] + a[j]) + b[j]


@njit(cache=True, nogil=True)
def push_row(
    ring: NDArray[np.float64],
    first: NDArray[np.int64],
    depth: NDArray[np.int64],
    lag: NDArray[np.int64],
    row: int,
    out: NDArray[np.float64],
) -> None:
    """Take in row `row` of one quantity and give the sum of the window that ends with it.

    Parameters
    ----------
    ring : ndarray of float64, shape (sum of depth, n)
        Level k holds its last ``depth[k]`` rows from ``first[k]`` on, row y in slot
        ``y % depth[k]``. The new row already stands in its slot of level 0.
    out : ndarray of float64, shape (n,)
        Window sums along y; only meaningful from row ``window - 1`` on.
    """
    n = out.size
    levels = depth.size
    for k in range(1, levels):
        half = 1 << (k - 1)
        below = first[k - 1]
        newest = below + row % depth[k - 1]
        older = below + (row - half) % depth[k - 1]
        _add(ring[older, :n], ring[newest, :n], ring[first[k] + row % depth[k], :n])
    _combine_rows(ring, first, depth, lag, row, out)


@njit(cache=True, nogil=True)
def _combine_rows(
    ring: NDArray[np.float64],
    first: NDArray[np.int64],
    depth: NDArray[np.int64],
    lag: NDArray[np.int64],
    row: int,
    out: NDArray[np.float64],
) -> None:
    n = out.size
    top = depth.size - 1
    slots = np.empty(depth.size, np.int64)
    terms = 0
    for k in range(top, -1, -1):
        if lag[k] >= 0:
            slots[terms] = first[k] + (row - lag[k]) % depth[k]
            terms += 1
    if terms == 1:
        out[:] = ring[slots[0], :n]
        return
    if terms % 2:
        _add_three(ring[slots[0], :n], ring[slots[1], :n], ring[slots[2], :n], out)
        i = 3
    else:
        _add(ring[slots[0], :n], ring[slots[1], :n], out)
        i = 2
    while i < terms:
        _add_to(ring[slots[i], :n], ring[slots[i + 1], :n], out)
        i += 2


@njit(cache=True, nogil=True)
def sum_along_row(
    values: NDArray[np.float64],
    work: NDArray[np.float64],
    lag: NDArray[np.int64],
    window: int,
    out: NDArray[np.float64],
) -> None:
    """``out[j] = values[j] + ... + values[j + window - 1]`` by the same tree.

    `values` has ``out.size + window - 1`` elements; `work` has at least (levels, values.size).
    """
    n = out.size
    levels = lag.size
    work[0, : values.size] = values
    length = values.size
    for k in range(1, levels):
        half = 1 << (k - 1)
        length -= half
        _add(work[k - 1, :length], work[k - 1, half : half + length], work[k, :length])
    start = np.empty(levels, np.int64)
    level = np.empty(levels, np.int64)
    terms = 0
    for k in range(levels - 1, -1, -1):
        if lag[k] >= 0:
            start[terms] = window - (1 << k) - lag[k]
            level[terms] = k
            terms += 1
    if terms == 1:
        out[:] = work[level[0], :n]
        return
    a = work[level[0], start[0] : start[0] + n]
    b = work[level[1], start[1] : start[1] + n]
    if terms % 2:
        _add_three(a, b, work[level[2], start[2] : start[2] + n], out)
        i = 3
    else:
        _add(a, b, out)
        i = 2
    while i < terms:
        _add_to(
            work[level[i], start[i] : start[i] + n],
            work[level[i + 1], start[i + 1] : start[i + 1] + n],
            out,
        )
        i += 2


def sliding_extreme(values: NDArray[Any], window: int, ufunc: np.ufunc) -> NDArray[Any]:
    """Least or greatest value (`ufunc` = numpy.minimum or maximum) of every window of a tile.

    Parameters
    ----------
    values : ndarray, shape (h + window - 1, w + window - 1)

    Returns
    -------
    ndarray, shape (h, w)
    """
    for axis in (0, 1):
        span = 1
        while 2 * span <= window:
            values = _overlap(values, span, axis, ufunc)
            span *= 2
        if span < window:  # two spans that overlap cover the window: an extreme does not mind
            values = _overlap(values, window - span, axis, ufunc)
    return values


def _overlap(values: NDArray[Any], step: int, axis: int, ufunc: np.ufunc) -> NDArray[Any]:
    if axis == 0:
        return ufunc(values[:-step], values[step:])
    return ufunc(values[:, :-step], values[:, step:])
