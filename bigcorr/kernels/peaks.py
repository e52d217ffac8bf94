"""The peak of a surface of correlations: where it is, to a fraction of a shift, and how clear.

One surface of ``side x side`` shifts in, four numbers out. How the surface came about lives in
`chips`, `strips` and `sliding`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit

NONE, QUADRATIC, GAUSSIAN, SOFT_ARGMAX = range(4)
METHODS = {"none": NONE, "quadratic": QUADRATIC, "gaussian": GAUSSIAN, "soft_argmax": SOFT_ARGMAX}
"""How a peak is refined, by the name that users give."""

VALUES = 7
"""Numbers that `find_peak` writes."""

_SOFT_REACH = 2
_LEAST_DETERMINANT = 1e-7
"""Shifts about the peak that the soft argmax looks at; the least determinant of a quadratic that is
solved, in units of the square of its greatest second derivative."""


@njit(cache=True, nogil=True, error_model="numpy")
def find_peak(
    surface: NDArray[np.float64],
    begin: int,
    pitch: int,
    step: int,
    side: int,
    method: int,
    temperature: float,
    out: NDArray[np.float64],
) -> None:
    """Write (dy, dx, score, ratio, and minus the second derivatives yy, xx, xy) of a surface.

    Parameters
    ----------
    surface : ndarray of float64
        The correlation of shift (i, j), both counted from 0, is element
        ``begin + i * pitch + j * step``; NaN where it has none.
    side : int
        Shifts along each axis, an odd number; (0, 0) is that of the middle.
    method, temperature
        One of `METHODS`; of the soft argmax.
    out : ndarray of float64, shape (7,)
        All NaN where there is no peak, or where one of the eight shifts about it is missing: where
        it lies on the border of the search.

    Notes
    -----
    The ratio is that of the greatest value to the greatest outside the 3 x 3 shifts about it:
    infinite where that is not positive, NaN where there is none. Of equal peaks the first counts.
    """
    best, row, column = -np.inf, -1, -1
    for i in range(side):
        for j in range(side):
            value = surface[begin + i * pitch + j * step]
            if value > best:
                best, row, column = value, i, j
    second = -np.inf
    for i in range(side):
        for j in range(side):
            if i < row - 1 or i > row + 1 or j < column - 1 or j > column + 1:
                value = surface[begin + i * pitch + j * step]
                if value > second:
                    second = value
    finish_peak(surface, begin, pitch, step, side, row, column, second, method, temperature, out)


@njit(cache=True, nogil=True, error_model="numpy")
def finish_peak(
    surface: NDArray[np.float64],
    begin: int,
    pitch: int,
    step: int,
    side: int,
    row: int,
    column: int,
    second: float,
    method: int,
    temperature: float,
    out: NDArray[np.float64],
) -> None:
    """`find_peak` where the greatest value, and the greatest far from it, have been found."""
    for k in range(VALUES):
        out[k] = np.nan
    if row < 1 or column < 1 or row > side - 2 or column > side - 2:
        return
    at = begin + row * pitch + column * step
    total = 0.0
    for i in range(-1, 2):
        for j in range(-1, 2):
            total += surface[at + i * pitch + j * step]
    best = surface[at]
    if best <= 0 or not math.isfinite(total):
        return
    if second > 0:
        out[3] = best / second
    elif second > -np.inf:
        out[3] = np.inf
    y, x = 0.0, 0.0
    if method == SOFT_ARGMAX:
        y, x = _soft(surface, begin, pitch, step, side, row, column, temperature)
    elif method != NONE:
        y, x = _fit(surface, at, pitch, step, method)
    out[0] = row - side // 2 + y
    out[1] = column - side // 2 + x
    out[2] = best
    out[4] = 2 * best - surface[at - pitch] - surface[at + pitch]
    out[5] = 2 * best - surface[at - step] - surface[at + step]
    out[6] = (
        surface[at + pitch - step]
        + surface[at - pitch + step]
        - surface[at + pitch + step]
        - surface[at - pitch - step]
    ) / 4


@njit(cache=True, nogil=True)
def lay_out(
    found: NDArray[np.float64],
    before: NDArray[np.float64],
    scale: float,
    out: NDArray[np.float32],
) -> None:
    """Numbers of nodes in float32, one after the other, with vectors in pixels of the raster.

    Parameters
    ----------
    found : ndarray of float64, shape (n, m, 7)
        See `find_peak`.
    before : ndarray of float64, shape (2, n, m) or without elements
        What the search started from, in pixels of the raster; nothing: from where the nodes are.
    scale : float
        Pixels of the raster a shift.
    out : ndarray of float32, shape (7, n, m)
        Where there is no peak the vector is what the search started from.
    """
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            one = found[i, j]
            none = np.isnan(one[0])
            for k in range(2):
                moved = 0.0 if none else one[k] * scale
                out[k, i, j] = moved + before[k, i, j] if before.size else moved
            for k in range(2, VALUES):
                out[k, i, j] = one[k]


@njit(cache=True, nogil=True, error_model="numpy")
def _fit(
    surface: NDArray[np.float64], at: int, pitch: int, step: int, method: int
) -> tuple[float, float]:
    """The maximum of the quadratic through a peak, or of the Gaussian: that of the logarithms."""
    above, below = at - pitch, at + pitch
    a, b, c = surface[above - step], surface[above], surface[above + step]
    d, centre, f = surface[at - step], surface[at], surface[at + step]
    g, h, k = surface[below - step], surface[below], surface[below + step]
    if method == GAUSSIAN and min(a, b, c, d, centre, f, g, h, k) > 0:
        a, b, c = math.log(a), math.log(b), math.log(c)
        d, centre, f = math.log(d), math.log(centre), math.log(f)
        g, h, k = math.log(g), math.log(h), math.log(k)
    gy, gx = (h - b) / 2, (f - d) / 2
    yy, xx, xy = h - 2 * centre + b, f - 2 * centre + d, (k - g - c + a) / 4
    determinant = yy * xx - xy * xy
    if determinant > _LEAST_DETERMINANT * max(yy * yy, xx * xx, xy * xy):
        y, x = (xy * gx - xx * gy) / determinant, (xy * gy - yy * gx) / determinant
        if abs(y) <= 1 and abs(x) <= 1:
            return y, x
    # A ridge, or nearly so: each axis by itself, which never goes beyond half a shift.
    return (-gy / yy if yy < 0 else 0.0), (-gx / xx if xx < 0 else 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _soft(
    surface: NDArray[np.float64],
    begin: int,
    pitch: int,
    step: int,
    side: int,
    row: int,
    column: int,
    temperature: float,
) -> tuple[float, float]:
    """Expected shift about the peak under the softmax of the values around it."""
    best = surface[begin + row * pitch + column * step]
    total = y = x = 0.0
    # As far to either side: a support that is cut would lean to the other one.
    reach = min(_SOFT_REACH, row, column, side - 1 - row, side - 1 - column)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            value = surface[begin + (row + i) * pitch + (column + j) * step]
            if value == value:
                weight = math.exp((value - best) / temperature)
                total += weight
                y += weight * i
                x += weight * j
    return y / total, x / total
