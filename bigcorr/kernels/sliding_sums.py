"""Sums of products over windows side by side, the correlations of these, and their peaks.

The inner loops of `sliding`, eight columns at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.products import FLOOR
from bigcorr.kernels.vectors import LANES, fma, if_greater, load, splat, store


@njit(cache=True, nogil=True)
def _add_rows(
    rows: NDArray[np.float64],
    first: int,
    pitch: int,
    image: NDArray[np.float64],
    begin: int,
    pitch_image: int,
    window: int,
    length: int,
    column: NDArray[np.float64],
) -> None:
    """Sums along y of rows, which are weighted, times those of an image."""
    for j in range(0, length, 2 * LANES):
        a, b = splat(0.0), splat(0.0)
        for r in range(window):
            p, q = first + r * pitch + j, begin + r * pitch_image + j
            a = fma(load(rows, p), load(image, q), a)
            b = fma(load(rows, p + LANES), load(image, q + LANES), b)
        store(column, j, a)
        store(column, j + LANES, b)


@njit(cache=True, nogil=True)
def sum_products(
    rows: NDArray[np.float64],
    first: int,
    pitch: int,
    image: NDArray[np.float64],
    begin: int,
    pitch_image: int,
    taps: NDArray[np.float64],
    count: int,
    column: NDArray[np.float64],
    out: NDArray[np.float64],
    to: int,
) -> None:
    """Window sums of rows, which are weighted along y, times those of an image, side by side."""
    window = taps.size
    length = count + window - 1
    _add_rows(rows, first, pitch, image, begin, pitch_image, window, length, column)
    for j in range(0, count, LANES):
        a = splat(0.0)
        for c in range(window):
            a = fma(splat(taps[c]), load(column, j + c), a)
        store(out, to + j, a)


@njit(cache=True, nogil=True)
def score_windows(
    rows: NDArray[np.float64],
    pitch: int,
    image: NDArray[np.float64],
    begin: int,
    pitch_image: int,
    taps: NDArray[np.float64],
    side: int,
    count: int,
    panel: int,
    column: NDArray[np.float64],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    sums: NDArray[np.float64],
    roots: NDArray[np.float64],
    at: int,
    pitch_sums: int,
    out: NDArray[np.float64],
) -> None:
    """Correlations of windows side by side without missing pixels, at all shifts.

    The sums of products are those of `sum_products`, taken here so that no call is made a shift.

    Parameters
    ----------
    rows, pitch
        The reference's rows, weighted along y.
    image, begin, pitch_image
        The moving image, and where the first window lies at the first shift.
    mean, scale : ndarray of float64
        Of the reference's windows: the mean, and one over the root of the squares about it.
    sums, roots, at, pitch_sums
        Of the moving image's windows: their sums, and the same as `scale`; where the first lies at
        the first shift, and from row to row.
    out : ndarray of float64
        Element ``shift * panel + k`` is that of the k-th window.
    """
    window = taps.size
    one, least = splat(1.0), splat(-1.0)
    for shift in range(side * side):
        dy, dx = shift // side, shift % side
        first = begin + dy * pitch_image + dx
        for j in range(0, count + window - 1, 2 * LANES):
            a, b = splat(0.0), splat(0.0)
            for r in range(window):
                p, q = r * pitch + j, first + r * pitch_image + j
                a = fma(load(rows, p), load(image, q), a)
                b = fma(load(rows, p + LANES), load(image, q + LANES), b)
            store(column, j, a)
            store(column, j + LANES, b)
        place, to = at + dy * pitch_sums + dx, shift * panel
        for j in range(0, count, 2 * LANES):
            a, b = splat(0.0), splat(0.0)
            for c in range(window):
                w = splat(taps[c])
                a = fma(w, load(column, j + c), a)
                b = fma(w, load(column, j + c + LANES), b)
            k = j + LANES
            a = (a - load(mean, j) * load(sums, place + j)) * (
                load(scale, j) * load(roots, place + j)
            )
            b = (b - load(mean, k) * load(sums, place + k)) * (
                load(scale, k) * load(roots, place + k)
            )
            a, b = if_greater(a, one, one, a), if_greater(b, one, one, b)
            store(out, to + j, if_greater(least, a, least, a))
            store(out, to + k, if_greater(least, b, least, b))


@njit(cache=True, nogil=True, error_model="numpy")
def invert_roots(sums: NDArray[np.float64], squares: NDArray[np.float64], weight: float) -> None:
    """Sums of squares to one over their root about the mean, 0 where a window is constant."""
    for j in range(sums.size):
        centred = squares[j] - sums[j] * sums[j] / weight
        squares[j] = 1 / np.sqrt(centred) if centred > FLOOR * squares[j] else 0.0


@njit(cache=True, nogil=True)
def find_peaks(
    surface: NDArray[np.float64],
    at: int,
    pitch: int,
    side: int,
    near: NDArray[np.float64],
    peaks: NDArray[np.float64],
) -> None:
    """Of eight surfaces side by side the place of the greatest value, and the greatest far away.

    Parameters
    ----------
    surface : ndarray of float64
        Shift (i, j) of the k-th surface is element ``at + (i * side + j) * pitch + k``.
    near : ndarray of float64
        Room for ``8 * side`` numbers.
    peaks : ndarray of float64, shape (24,)
        The three, eight numbers each. Far away is outside the 3 x 3 shifts about the greatest; a
        surface without any value has row -1.
    """
    nothing, zero, one = splat(-np.inf), splat(0.0), splat(1.0)
    best, index = nothing, splat(-1.0)
    for k in range(side * side):
        value = load(surface, at + k * pitch)
        index = if_greater(value, best, splat(float(k)), index)
        best = if_greater(value, best, value, best)
    store(peaks, 0, index)
    for lane in range(LANES):
        row = np.floor((peaks[lane] + 0.5) / side)
        peaks[LANES + lane] = peaks[lane] - row * side
        peaks[lane] = row
    # What is added to a value: nothing far away, minus infinity near the greatest.
    row, column, second = load(peaks, 0), load(peaks, LANES), nothing
    for dx in range(side):
        away = column - splat(float(dx))
        store(near, dx * LANES, if_greater(away * away, one, zero, nothing))
    for dy in range(side):
        away = row - splat(float(dy))
        rows = if_greater(away * away, one, zero, nothing)
        for dx in range(side):
            columns = load(near, dx * LANES)
            value = load(surface, at + (dy * side + dx) * pitch)
            value = value + if_greater(rows, columns, rows, columns)
            second = if_greater(value, second, value, second)
    store(peaks, 2 * LANES, second)
