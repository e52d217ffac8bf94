"""What is asked of windows beside their sums: how many pixels count, the least and the greatest.

Exact in any order, so that no care is needed for what a tile's edge is; sums of values, where it
is, are those of `block_sums`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit


def count_windows(valid: NDArray[np.bool_], window: int) -> NDArray[np.float64]:
    """How many pixels are valid in every window of a tile.

    Parameters
    ----------
    valid : ndarray of bool, shape (h + window - 1, w + window - 1)

    Returns
    -------
    ndarray of float64, shape (h, w)
    """
    out = np.empty((valid.shape[0] - window + 1, valid.shape[1] - window + 1))
    _count_windows(np.ascontiguousarray(valid).view(np.uint8), window, out)
    return out


@njit(cache=True, nogil=True)
def _count_windows(valid: NDArray[np.uint8], window: int, out: NDArray[np.float64]) -> None:
    counts = np.zeros(valid.shape[1], np.int64)
    for y in range(valid.shape[0]):
        for x in range(counts.size):
            counts[x] += valid[y, x]
        top = y - window + 1
        if top < 0:
            continue
        count = 0
        for x in range(window - 1):
            count += counts[x]
        for x in range(out.shape[1]):
            count += counts[x + window - 1]
            out[top, x] = count
            count -= counts[x]
        for x in range(counts.size):
            counts[x] -= valid[top, x]


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
