"""Sums of products of a small image with a larger one at every shift, and correlations from these.

Direct, in vectors of eight, each sum in an order that only its own pixels decide. `chips` and
`blocks` are made of these; which sums are taken of what is theirs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.vectors import LANES, fma, load, splat, store

FLOOR = 1e-12
"""A window is constant where its sum of squares about its mean is at most this share of that about
the offset: float64 sums leave some 1e-15 of it."""

ROWS = 3
"""Rows of shifts that are worked out together."""

MARGIN = 2 * LANES
"""Columns, and rows, of zeros that an image has behind its last: vectors reach over its end."""


def padded(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """A copy of an image with the zeros behind it that these functions read over."""
    out = np.zeros((image.shape[0] + MARGIN, padded_width(image.shape[1])))
    out[: image.shape[0], : image.shape[1]] = image
    return out


def padded_width(width: int) -> int:
    """Elements of a row of `padded`: cache lines in odd numbers, or rows would share places."""
    return (-(-(width + MARGIN) // LANES) // 2 * 2 + 1) * LANES


def surface_shape(side: int) -> tuple[int, int]:
    """Rows and columns that `correlate` writes for ``side x side`` shifts."""
    return -(-side // ROWS) * ROWS, -(-side // LANES) * LANES


@njit(cache=True, nogil=True)
def least_weight(weight: float, min_valid: float) -> float:
    """What must be valid of a window; Fourier transforms give weights but for rounding."""
    return max(min_valid - 1e-9, 1e-9) * weight


@njit(cache=True, nogil=True)
def take_block(
    image: NDArray[np.float64],
    begin: int,
    pitch: int,
    rows: int,
    columns: int,
    out: NDArray[np.float64],
) -> None:
    """Copy a part of an image as `correlate` takes it: with two rows of zeros at both ends."""
    edge = (ROWS - 1) * columns
    out[:edge] = 0.0
    out[edge + rows * columns : 2 * edge + rows * columns] = 0.0
    for r in range(rows):
        line = image[begin + r * pitch : begin + r * pitch + columns]
        to = out[edge + r * columns : edge + (r + 1) * columns]
        for c in range(columns):
            to[c] = line[c]


@njit(cache=True, nogil=True)
def correlate(
    block: NDArray[np.float64],
    rows: int,
    columns: int,
    area: NDArray[np.float64],
    begin: int,
    pitch: int,
    side: int,
    out: NDArray[np.float64],
    to: int,
    pitch_out: int,
) -> None:
    """``out[i, j] = sum over r, c of block[r, c] * area[i + r, j + c]`` for i, j below `side`.

    Parameters
    ----------
    block : ndarray of float64, shape ((rows + 4) * columns,)
        See `take_block`.
    area, begin, pitch
        Where its first element is, and from row to row.
    out, to, pitch_out
        The same of the result; all of `surface_shape` is overwritten.
    """
    nothing = splat(0.0)
    for i in range(0, side, ROWS):
        for j in range(0, side - LANES, 2 * LANES):
            a, b, c, d = nothing, nothing, nothing, nothing
            e, f = nothing, nothing
            for row in range(rows + ROWS - 1):
                at = begin + (i + row) * pitch + j
                k = (row + ROWS - 1) * columns
                for column in range(columns):
                    u, v = load(area, at + column), load(area, at + column + LANES)
                    w = splat(block[k + column])
                    a, b = fma(w, u, a), fma(w, v, b)
                    w = splat(block[k - columns + column])
                    c, d = fma(w, u, c), fma(w, v, d)
                    w = splat(block[k - 2 * columns + column])
                    e, f = fma(w, u, e), fma(w, v, f)
            at = to + i * pitch_out + j
            store(out, at, a)
            store(out, at + LANES, b)
            store(out, at + pitch_out, c)
            store(out, at + pitch_out + LANES, d)
            store(out, at + 2 * pitch_out, e)
            store(out, at + 2 * pitch_out + LANES, f)
        if (side - 1) // LANES % 2 == 0:  # one vector is left
            j = (side - 1) // LANES * LANES
            a, c, e = nothing, nothing, nothing
            for row in range(rows + ROWS - 1):
                at = begin + (i + row) * pitch + j
                k = (row + ROWS - 1) * columns
                for column in range(columns):
                    u = load(area, at + column)
                    a = fma(splat(block[k + column]), u, a)
                    c = fma(splat(block[k - columns + column]), u, c)
                    e = fma(splat(block[k - 2 * columns + column]), u, e)
            at = to + i * pitch_out + j
            store(out, at, a)
            store(out, at + pitch_out, c)
            store(out, at + 2 * pitch_out, e)


@njit(cache=True, nogil=True)
def sum_windows(
    image: NDArray[np.float64],
    begin: int,
    pitch: int,
    rows: int,
    columns: int,
    taps: NDArray[np.float64],
    line: NDArray[np.float64],
    out: NDArray[np.float64],
    to: int,
    pitch_out: int,
) -> None:
    """Weighted sums over windows, along y and then along x.

    Parameters
    ----------
    image, begin, pitch
        Where the first window begins, and from row to row.
    rows, columns : int
        Windows along each axis, from pixel to pixel.
    taps : ndarray of float64, shape (window,)
        Weights along both axes.
    line : ndarray of float64
        Room for ``columns + window + 32`` numbers.
    out, to, pitch_out
        Rows of the result, each written to the next multiple of 16.
    """
    window = taps.size
    for i in range(rows):
        for j in range(0, columns + window - 1, 2 * LANES):
            a, b = splat(0.0), splat(0.0)
            at = begin + i * pitch + j
            for r in range(window):
                w = splat(taps[r])
                a = fma(w, load(image, at + r * pitch), a)
                b = fma(w, load(image, at + r * pitch + LANES), b)
            store(line, j, a)
            store(line, j + LANES, b)
        for j in range(0, columns, 2 * LANES):
            a, b = splat(0.0), splat(0.0)
            for c in range(window):
                w = splat(taps[c])
                a = fma(w, load(line, j + c), a)
                b = fma(w, load(line, j + c + LANES), b)
            store(out, to + i * pitch_out + j, a)
            store(out, to + i * pitch_out + j + LANES, b)


@njit(cache=True, nogil=True, error_model="numpy")
def score_whole(
    products: NDArray[np.float64],
    pitch: int,
    side: int,
    weight: float,
    x: float,
    xx: float,
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    pitch_sums: int,
    score: NDArray[np.float64],
) -> None:
    """Correlations of a window without missing pixels; 0 where either is constant.

    Parameters
    ----------
    products : ndarray of float64
        Weighted sums of products at all shifts, rows from `pitch` to `pitch`.
    weight, x, xx : float
        Of the window: its weight, and weighted sums of its values and of their squares.
    sums, squares : ndarray of float64
        The last two at all shifts, rows from `pitch_sums` to `pitch_sums`.
    score : ndarray of float64
        Rows as of `products`.
    """
    vx = xx - x * x / weight
    mean = x / weight if vx > FLOOR * xx else 0.0
    scale = 1 / vx if vx > FLOOR * xx else 0.0
    for i in range(side):
        line, into = products[i * pitch : i * pitch + side], score[i * pitch : i * pitch + side]
        at = i * pitch_sums
        y, yy = sums[at : at + side], squares[at : at + side]
        for j in range(side):
            vy = yy[j] - y[j] * y[j] / weight
            value = (line[j] - mean * y[j]) * np.sqrt(scale / vy)
            into[j] = min(max(value, -1.0), 1.0) if vy > FLOOR * yy[j] else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def score_masked(
    sums: NDArray[np.float64],
    pitch: int,
    size: int,
    least: float,
    score: NDArray[np.float64],
) -> None:
    """Correlations over what is valid in both; NaN where that weighs less than `least`.

    sums : six surfaces of `size` elements, from `pitch` to `pitch`, over what is valid in both: of
        products, of the first image's values, weights, and the first image's squares, the second
        one's values and squares.
    """
    for k in range(size):
        n = sums[2 * pitch + k]
        value = np.nan
        if n >= least and n > 0:
            x, y = sums[pitch + k], sums[4 * pitch + k]
            xx, yy = sums[3 * pitch + k], sums[5 * pitch + k]
            vx, vy = xx - x * x / n, yy - y * y / n
            value = 0.0
            if vx > FLOOR * xx and vy > FLOOR * yy:
                value = (sums[k] - x / n * y) * (1 / np.sqrt(vx) * (1 / np.sqrt(vy)))
                value = min(max(value, -1.0), 1.0)
        score[k] = value
