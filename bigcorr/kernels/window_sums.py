"""Sums over square windows by a fixed tree, for tiles that stream through row by row.

Sums of 3, 9, 27, ... neighbours are made from three of the level below, and a window of any length
is a fixed combination of them: 7 = 3 + 3 + 1. Where a window lies does not enter, so its sum has
the same bits under any tiling, unlike a running sum that is carried along from the edge of the
tile; and the cost grows with the logarithm of the window. Threes rather than twos, because the
time goes into passing over rows, and a pass that adds three rows costs little more than one that
adds two. `ncc` is built on this.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class Tree(NamedTuple):
    """The plan of the sums of a window.

    depth : (levels,) rows of level k, the sums of ``3**k`` rows, that have to be kept.
    level : (terms,) the level of each term of the window, from the highest to the lowest.
    start, lag : (terms,) how far after the window's begin a term begins, and before its end it
        ends.
    """

    depth: NDArray[np.int64]
    level: NDArray[np.int64]
    start: NDArray[np.int64]
    lag: NDArray[np.int64]


def plan_tree(window: int) -> Tree:
    """The tree for windows of `window` pixels.

    Examples
    --------
    >>> plan = plan_tree(7)
    >>> plan.level.tolist(), plan.start.tolist()
    ([1, 1, 0], [0, 3, 6])
    """
    top = 0
    while 3 ** (top + 1) <= window:
        top += 1
    level, start, lag, rest = [], [], [], window
    for k in range(top, -1, -1):
        while rest >= 3**k:
            level.append(k)
            start.append(window - rest)
            rest -= 3**k
            lag.append(rest)
    depth = [2 * 3**k + 1 if k < top else 1 for k in range(top + 1)]
    for k, behind in zip(level, lag, strict=True):
        depth[k] = max(depth[k], behind + 1)
    return Tree(*(np.array(values, np.int64) for values in (depth, level, start, lag)))


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
    tree: Tree,
    row: int,
    out: NDArray[np.float64],
) -> None:
    """Take in row `row` and give the sum over y of the window that ends with it.

    Parameters
    ----------
    ring : ndarray of float64, shape (sum of depth, n)
        Level k holds its last ``depth[k]`` rows from ``first[k]`` on, row y in slot
        ``y % depth[k]``. The new row already stands in its slot of level 0. A row may hold several
        quantities one after the other.
    out : ndarray of float64, shape (n,)
        Window sums along y; only meaningful from row ``window - 1`` on.
    """
    depth = tree.depth
    third = 1
    for k in range(1, depth.size):
        below = first[k - 1]
        _add_three(
            ring[below + (row - 2 * third) % depth[k - 1]],
            ring[below + (row - third) % depth[k - 1]],
            ring[below + row % depth[k - 1]],
            ring[first[k] + row % depth[k]],
        )
        third *= 3
    lines, starts = np.empty(tree.level.size, np.int64), np.empty(tree.level.size, np.int64)
    for i in range(lines.size):
        k = tree.level[i]
        lines[i] = first[k] + (row - tree.lag[i]) % depth[k]
        starts[i] = 0
    _combine(ring, lines, starts, out)


@njit(cache=True, nogil=True)
def sum_along_row(
    work: NDArray[np.float64], tree: Tree, window: int, out: NDArray[np.float64]
) -> None:
    """``out[j] = work[0, j] + ... + work[0, j + window - 1]`` by the same tree.

    `work` has a row a level, longer than `out` by ``window - 1`` at least; all but the first are
    overwritten.
    """
    length = out.size + window - 1
    third = 1
    for k in range(1, tree.depth.size):
        length -= 2 * third
        below = work[k - 1]
        _add_three(
            below[:length],
            below[third : third + length],
            below[2 * third : 2 * third + length],
            work[k, :length],
        )
        third *= 3
    _combine(work, tree.level, tree.start, out)


@njit(cache=True, nogil=True)
def _combine(
    sums: NDArray[np.float64],
    lines: NDArray[np.int64],
    starts: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Add the terms of the window in their order, with few passes over `out`."""
    n, count = out.size, lines.size
    a = sums[lines[0], starts[0] : starts[0] + n]
    if count == 1:
        for j in range(n):
            out[j] = a[j]
        return
    b = sums[lines[1], starts[1] : starts[1] + n]
    if count % 2:
        _add_three(a, b, sums[lines[2], starts[2] : starts[2] + n], out)
        done = 3
    else:
        _add(a, b, out)
        done = 2
    for i in range(done, count, 2):
        c = sums[lines[i], starts[i] : starts[i] + n]
        d = sums[lines[i + 1], starts[i + 1] : starts[i + 1] + n]
        _add_to(c, d, out)


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
