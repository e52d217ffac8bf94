"""Weighted sums over a symmetric support, of four neighbours and eight lanes at a time.

`gaussian` and the weighted windows of `moments` are made of these. No other shape of weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.vectors import fma, load, splat, store


@njit(cache=True, nogil=True)
def fold(
    x: NDArray[np.float64],
    at: int,
    stride: int,
    half: NDArray[np.float64],
    radius: int,
    out: NDArray[np.float64],
    to: int,
    step: int,
) -> None:
    """``half[0] * x[c] + sum over k = 1 .. radius of half[k] * (x[c - k] + x[c + k])``, k rising.

    Parameters
    ----------
    x : ndarray of float64
        Vectors of eight, `stride` elements from one neighbour to the next.
    at, stride : int
        Where the support's middle is: x[c] begins at element ``at + i * stride`` for the i-th of
        four sums.
    half : ndarray of float64, shape (at least radius + 1,)
        Weights by distance.
    out : ndarray of float64
        The i-th sum goes to the elements from ``to + i * step`` on.
    """
    a, b, c, d = (
        load(x, at),
        load(x, at + stride),
        load(x, at + 2 * stride),
        load(x, at + 3 * stride),
    )
    e, f, g, h = a, b, c, d
    weight, nothing = splat(half[0]), splat(0.0)
    s, t = fma(a, weight, nothing), fma(b, weight, nothing)
    u, v = fma(c, weight, nothing), fma(d, weight, nothing)
    before, after = at, at + 3 * stride
    for k in range(1, radius + 1):
        before -= stride
        after += stride
        weight = splat(half[k])
        # Each neighbour is read once and handed from sum to sum.
        d, c, b, a = c, b, a, load(x, before)
        e, f, g, h = f, g, h, load(x, after)
        s, t = fma(a + e, weight, s), fma(b + f, weight, t)
        u, v = fma(c + g, weight, u), fma(d + h, weight, v)
    store(out, to, s)
    store(out, to + step, t)
    store(out, to + 2 * step, u)
    store(out, to + 3 * step, v)
