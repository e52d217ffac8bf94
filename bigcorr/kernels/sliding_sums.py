"""Sums of products over windows side by side, the correlations of these, and their peaks.

The inner loops of `sliding`, eight columns at a time; `strips` has its peaks and moments from here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.peaks import finish_peak
from bigcorr.kernels.products import FLOOR, MARGIN, sum_windows
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
def _find_peaks(
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


@njit(cache=True, nogil=True)
def take_peaks(
    surface: NDArray[np.float64],
    begin: int,
    pitch: int,
    side: int,
    count: int,
    first: int,
    step: int,
    near: NDArray[np.float64],
    peaks: NDArray[np.float64],
    method: int,
    temperature: float,
    out: NDArray[np.float64],
) -> None:
    """Write what `find_peak` says of each surface side by side that is a node's, eight at a time.

    Parameters
    ----------
    surface, begin, pitch, side, near, peaks
        See `_find_peaks`; refined while they lie in the near cache.
    count, first, step : int
        How many surfaces there are, the column of the first, and columns from node to node.
    out : ndarray of float64, shape (m, 7)
        Of a row of nodes, of which the first is at column 0.
    """
    for j in range(0, count, LANES):
        _find_peaks(surface, begin + j, pitch, side, near, peaks)
        for k in range(-(first + j) % step, min(LANES, count - j), step):
            finish_peak(
                surface,
                begin + j + k,
                side * pitch,
                pitch,
                side,
                int(peaks[k]),
                int(peaks[LANES + k]),
                peaks[2 * LANES + k],
                method,
                temperature,
                out[(first + j + k) // step],
            )


def window_moments(
    image: NDArray[np.float64],
    squares: NDArray[np.float64],
    rows: int,
    columns: int,
    taps: NDArray[np.float64],
    weight: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the windows at all pixels the weighted sum, and `invert_roots` of that of squares.

    Both have 16 columns more, which hold anything, for vectors to reach over.
    """
    shape = rows, columns + MARGIN
    sums, roots = np.empty(shape), np.empty(shape)
    line = np.empty(columns + taps.size + 2 * MARGIN)
    for values, target in ((image, sums), (squares, roots)):
        flat = values.reshape(-1), 0, values.shape[1]
        sum_windows(*flat, rows, columns, taps, line, target.reshape(-1), 0, shape[1])
    for i in range(rows):
        invert_roots(sums[i], roots[i], weight)
    return sums, roots
