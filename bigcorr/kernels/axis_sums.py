"""Weighted sums along an axis of a tile, each in the order of the weights: compiled.

Every result is the same sum wherever the tile was cut. Values in and out, no missing pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit


def weighted_sums(
    x: NDArray[np.float64], weights: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    """``sum_k weights[k] x[i + k]`` along an axis of a tile.

    Parameters
    ----------
    x : ndarray, shape (h, w)
    weights : ndarray, shape (k,)
    axis : {0, 1}

    Returns
    -------
    ndarray, shape (h - k + 1, w) or (h, w - k + 1)

    Examples
    --------
    >>> weighted_sums(np.array([[1.0, 2.0, 4.0]]), np.array([10.0, 1.0]), 1)
    array([[12., 24.]])
    """
    n = x.shape[axis] - weights.size + 1
    x = np.ascontiguousarray(x, np.float64)
    w = np.ascontiguousarray(weights, np.float64)
    shape = (n, x.shape[1]) if axis == 0 else (x.shape[0], n)
    if w.size == 1:
        return x * w[0]
    out = np.empty(shape)
    if out.size:
        (_down if axis == 0 else _along)(x.ravel(), x.shape[1], w, out)
    return out


@njit(cache=True, nogil=True)
def _down(x: NDArray, pitch: int, weights: NDArray, out: NDArray) -> None:
    for i in range(out.shape[0]):
        start = i * pitch
        _sum_of(x, start, pitch, weights, out[i])


@njit(cache=True, nogil=True)
def _along(x: NDArray, pitch: int, weights: NDArray, out: NDArray) -> None:
    for i in range(out.shape[0]):
        _sum_of(x, i * pitch, 1, weights, out[i])


@njit(cache=True, nogil=True)
def _sum_of(x: NDArray, start: int, step: int, weights: NDArray, line: NDArray) -> None:
    """Four weights at a time, so that the line under way is loaded and stored less often."""
    n = line.size
    line[:] = 0.0
    k = 0
    while k + 4 <= weights.size:
        p = x[start + k * step : start + k * step + n]
        q = x[start + (k + 1) * step : start + (k + 1) * step + n]
        r = x[start + (k + 2) * step : start + (k + 2) * step + n]
        s = x[start + (k + 3) * step : start + (k + 3) * step + n]
        a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for j in range(n):
            line[j] = (((line[j] + a * p[j]) + b * q[j]) + c * r[j]) + d * s[j]
        k += 4
    while k < weights.size:
        p = x[start + k * step : start + k * step + n]
        a = weights[k]
        for j in range(n):
            line[j] += a * p[j]
        k += 1
