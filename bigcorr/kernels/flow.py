"""What is made of a measured flow: which vectors agree with their neighbours, and a smoother flow.

Both look at a few nodes about each one, so that where tiles are cut changes no bit. How a flow is
measured lives in `chips`, `blocks`, `strips` and `sliding`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit

REACH = 2
"""Nodes to each side that `smooth_flow` takes in."""

_FLOOR = 0.03
_OWN = 1e-3
_NOISE = 0.002
_ROUND = 0.99
"""Error in pixels that every vector has at least; weight of what a node had before where nothing is
known about it; noise of a correlation of 1; greatest correlation of the errors along y and x."""


@njit(cache=True, nogil=True)
def agreeing(
    dy: NDArray[np.float64],
    dx: NDArray[np.float64],
    valid: NDArray[np.bool_],
    threshold: float,
    tolerance: float,
    out: NDArray[np.bool_],
) -> None:
    """The normalised median test: is a vector like those of the eight nodes about it?

    Parameters
    ----------
    dy, dx : ndarray of float64, shape (n, m)
    valid : ndarray of bool, shape (n, m)
        Others are left out, and do not agree.
    threshold, tolerance : float
        How far it may be from their median, in units of the median distance of these from it plus
        `tolerance` pixels.
    out : ndarray of bool, shape (n, m)

    References
    ----------
    J. Westerweel, F. Scarano, "Universal outlier detection for PIV data", Experiments in Fluids 39,
    2005.
    """
    near = np.empty(8)
    for i in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            out[i, j] = valid[i, j]
            if not valid[i, j]:
                continue
            total = 0.0
            for flow in (dy, dx):
                count = 0
                for p in range(max(i - 1, 0), min(i + 2, dy.shape[0])):
                    for q in range(max(j - 1, 0), min(j + 2, dy.shape[1])):
                        if valid[p, q] and (p != i or q != j):
                            near[count] = flow[p, q]
                            count += 1
                if count == 0:
                    continue
                middle = _median(near[:count])
                for k in range(count):
                    near[k] = abs(near[k] - middle)
                residual = abs(flow[i, j] - middle) / (_median(near[:count]) + tolerance)
                total += residual * residual
            out[i, j] = total <= threshold * threshold


@njit(cache=True, nogil=True)
def _median(values: NDArray[np.float64]) -> float:
    """Of few values, which are sorted."""
    for k in range(1, values.size):
        value, at = values[k], k
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value
    half = values.size // 2
    return values[half] if values.size % 2 else (values[half - 1] + values[half]) / 2


@njit(cache=True, nogil=True, error_model="numpy")
def smooth_flow(
    nodes: NDArray[np.float64],
    agree: NDArray[np.bool_],
    pixels: float,
    drift: float,
    out: NDArray[np.float64],
) -> None:
    """Means of the vectors about each node, each weighted by how much it tells.

    A vector's error is taken from its correlation: the sharper and the higher the peak, the less,
    along each direction. A neighbour tells less the farther it is: the flow is taken to change by
    `drift` pixels from node to node. So a vector on good texture stays as it is nearly, and one on
    an edge takes from its neighbours what it cannot see itself.

    Parameters
    ----------
    nodes : ndarray of float64, shape (7, n, m)
        See `peaks.find_peak`, but dy and dx are finite everywhere: what a node had before where
        nothing was found.
    agree : ndarray of bool, shape (n, m)
        Vectors that count.
    pixels : float
        How many pixels of a window count as independent.
    drift : float
    out : ndarray of float64, shape (2, n, m)

    Notes
    -----
    With the correlation r and minus its second derivatives H the covariance of a vector is
    ``2 (1 - r) H^-1 / pixels``, and its weight the inverse of the sum of that, the least error and
    the drift.
    """
    n, m = agree.shape
    for i in range(n):
        for j in range(m):
            a, b, c = _OWN, 0.0, _OWN
            u, v = _OWN * nodes[0, i, j], _OWN * nodes[1, i, j]
            for p in range(max(i - REACH, 0), min(i + REACH + 1, n)):
                for q in range(max(j - REACH, 0), min(j + REACH + 1, m)):
                    if not agree[p, q]:
                        continue
                    scale = pixels / (2 * (1 - nodes[2, p, q]) + _NOISE)
                    yy, xx = max(scale * nodes[4, p, q], 0.0), max(scale * nodes[5, p, q], 0.0)
                    most = _ROUND * np.sqrt(yy * xx)
                    xy = min(max(scale * nodes[6, p, q], -most), most)
                    far = float((p - i) ** 2 + (q - j) ** 2)
                    s = _FLOOR * _FLOOR + drift * drift * far
                    # (H^-1 + s)^-1 = H (1 + s H)^-1
                    determinant = (1 + s * yy) * (1 + s * xx) - s * s * xy * xy
                    both = yy * xx - xy * xy
                    wy = (yy + s * both) / determinant
                    wx = (xx + s * both) / determinant
                    w = xy / determinant
                    a += wy
                    b += w
                    c += wx
                    u += wy * nodes[0, p, q] + w * nodes[1, p, q]
                    v += w * nodes[0, p, q] + wx * nodes[1, p, q]
            determinant = a * c - b * b
            out[0, i, j] = (c * u - b * v) / determinant
            out[1, i, j] = (a * v - b * u) / determinant
