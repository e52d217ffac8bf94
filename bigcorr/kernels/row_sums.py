"""Sums over the windows of a row by a fixed tree, many rows one after the other in one pass.

Sums of 3, 9, 27, ... neighbours are made from three of the level below, and a window of any length
is a fixed combination of them: 7 = 3 + 3 + 1. Where a window lies does not enter, so its sum has
the same bits in every patch. `window_pairs` is built on this; the maps go by `block_sums`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class Tree(NamedTuple):
    """The plan of the sums of a window.

    levels : how many there are: level k holds sums of ``3**k`` neighbours.
    level, start : (terms,) the level of each term of the window, and how far after the window's
        begin it begins.
    """

    levels: int
    level: NDArray[np.int64]
    start: NDArray[np.int64]


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
    level, start, rest = [], [], window
    for k in range(top, -1, -1):
        while rest >= 3**k:
            level.append(k)
            start.append(window - rest)
            rest -= 3**k
    return Tree(top + 1, np.array(level, np.int64), np.array(start, np.int64))


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
def sum_along_row(
    work: NDArray[np.float64], tree: Tree, window: int, out: NDArray[np.float64]
) -> None:
    """``out[j] = work[0, j] + ... + work[0, j + window - 1]`` by the same tree.

    `work` has a row a level, longer than `out` by ``window - 1`` at least; all but the first are
    overwritten.
    """
    length = out.size + window - 1
    third = 1
    for k in range(1, tree.levels):
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
