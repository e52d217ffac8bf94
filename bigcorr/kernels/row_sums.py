"""Sums over the windows of a row by a fixed tree, many rows one after the other in one pass.

Sums of 3, 9, 27, ... neighbours are made from three of the level below, and a window of any length
is a fixed combination of them: 7 = 3 + 3 + 1. Where a window lies does not enter, so its sum has
the same bits in every patch. `window_pairs` is built on this; the maps go by `block_sums`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.vectors import LANES, load, store


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
def sum_along_rows(work: NDArray[np.float64], tree: Tree, n: int, out: NDArray[np.float64]) -> None:
    """``out[j] = work[0, j] + ... + work[0, j + window - 1]`` for j below `n`, by the tree.

    Parameters
    ----------
    work : (levels, at least n + window + 8) float64
        The rows, which may stand one after the other; all but the first level are overwritten.
    n : a multiple of 8
    out : (at least n,) float64
        What a window gathers across the end of a row is there as well.
    """
    size = work.shape[1]
    flat = work.reshape(-1)
    third = 1
    for k in range(1, tree.levels):
        below, at = (k - 1) * size, k * size
        for j in range(0, size - 2 * third - LANES + 1, LANES):
            i = below + j
            store(flat, at + j, (load(flat, i) + load(flat, i + third)) + load(flat, i + 2 * third))
        third *= 3
    level, start = tree.level, tree.start  # read out once: it is not free in a loop
    terms = level.size
    first = level[0] * size + start[0]
    for j in range(0, n, LANES):
        total = load(flat, first + j)
        for t in range(1, terms):
            total = total + load(flat, level[t] * size + start[t] + j)
        store(out, j, total)
