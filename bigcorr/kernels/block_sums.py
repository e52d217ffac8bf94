"""Sums over windows from blocks that are as long as the window and anchored to the global grid.

A window covers the tail of one block and the head of the next. Tails are added up from a block's
end, heads from its begin, and a window's sum is one of each: three additions a pixel whatever the
window's length, nothing is ever subtracted, and where a tile begins does not enter, so a sum has
the same bits under any tiling (van Herk's and Gil and Werman's scheme for extremes, for sums). A
window that is a block is its head alone.

Everything goes by vectors of eight, and five quantities of two images at a time: x, y, x y, x x and
y y, in planes one after the other. `moments` says what is summed and in which order of rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.formulas import evaluate
from bigcorr.kernels.jit import njit
from bigcorr.kernels.vectors import LANES, fma, load, splat, store, transpose

QUANTITIES = 5


@njit(cache=True, nogil=True)
def add_tails(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    pitch: int,
    room: int,
    n: int,
    first: int,
    last: int,
    whole: bool,
    tails: NDArray[np.float64],
) -> None:
    """The tails of one block of rows.

    Parameters
    ----------
    x, y : ndarray of float64, shape (room * pitch,)
        Row r of the tile in slot ``r % room``.
    n : int
        Columns.
    first, last : int
        The block's rows that are in the tile, without `last`.
    whole : bool
        Whether the block's first row is among them: its tail is the block, and put down as 0.
    tails : ndarray of float64, shape (5 * room * pitch,)
        A plane a quantity, rows in slots like those of x.
    """
    plane = room * pitch
    nothing = splat(0.0)
    for j in range(0, n, LANES):
        a, b, c, d, e = nothing, nothing, nothing, nothing, nothing
        slot = last % room
        for row in range(last - 1, first - 1, -1):
            slot = slot - 1 if slot else room - 1
            at = slot * pitch + j
            u, v = load(x, at), load(y, at)
            a, b = a + u, b + v
            c, d, e = fma(u, v, c), fma(u, u, d), fma(v, v, e)
            if whole and row == first:
                a, b, c, d, e = nothing, nothing, nothing, nothing, nothing
            store(tails, at, a)
            store(tails, at + plane, b)
            store(tails, at + 2 * plane, c)
            store(tails, at + 3 * plane, d)
            store(tails, at + 4 * plane, e)


@njit(cache=True, nogil=True)
def add_rows(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    pitch: int,
    room: int,
    n: int,
    first: int,
    last: int,
    begin: int,
    window: int,
    tails: NDArray[np.float64],
    heads: NDArray[np.float64],
    sums: NDArray[np.float64],
    out: NDArray[np.float64],
    plane_out: int,
) -> bool:
    """The sums along y of the windows that end with rows `first` to before `last`.

    Parameters
    ----------
    x, y, pitch, room, n, tails
        As for `add_tails`.
    begin : int
        A row with which a block begins, after `first` or the same.
    heads : ndarray of float64, shape (5 * pitch,)
        The heads before row `first`; on return those with the last row.
    sums : ndarray of float64, shape (5 * 8 * 8,)
        Room to work in.
    out : ndarray of float64, shape (5 * plane_out,)
        Plane by plane the sums, for each column a vector of the windows that end with each of at
        most eight rows; nothing if any of them begins before row 0.

    Returns
    -------
    bool
        Whether all pixels of the rows are finite, as their sums of squares show.
    """
    plane, square = room * pitch, LANES * LANES
    nothing = splat(0.0)
    odd = nothing
    for j in range(0, n, LANES):
        a, b = load(heads, j), load(heads, j + pitch)
        c, d = load(heads, j + 2 * pitch), load(heads, j + 3 * pitch)
        e = load(heads, j + 4 * pitch)
        slot, top, to, new = first % room, (first - window + 1) % room, 0, begin
        for row in range(first, last):
            if row == new:
                odd = odd + ((d - d) + (e - e))  # NaN where they are not finite
                a, b, c, d, e = nothing, nothing, nothing, nothing, nothing
                new += window
            at = slot * pitch + j
            u, v = load(x, at), load(y, at)
            a, b = a + u, b + v
            c, d, e = fma(u, v, c), fma(u, u, d), fma(v, v, e)
            if row >= window - 1:
                at = top * pitch + j
                store(sums, to, a + load(tails, at))
                store(sums, to + square, b + load(tails, at + plane))
                store(sums, to + 2 * square, c + load(tails, at + 2 * plane))
                store(sums, to + 3 * square, d + load(tails, at + 3 * plane))
                store(sums, to + 4 * square, e + load(tails, at + 4 * plane))
                to += LANES
            slot = slot + 1 if slot + 1 < room else 0
            top = top + 1 if top + 1 < room else 0
        odd = odd + ((d - d) + (e - e))
        store(heads, j, a)
        store(heads, j + pitch, b)
        store(heads, j + 2 * pitch, c)
        store(heads, j + 3 * pitch, d)
        store(heads, j + 4 * pitch, e)
        if last >= window:
            for k in range(QUANTITIES):
                transpose(sums, k * square, LANES, out, k * plane_out + j * LANES, LANES)
    store(sums, 0, odd)
    finite = True
    for i in range(LANES):
        finite &= sums[i] == 0.0
    return finite


@njit(cache=True, nogil=True)
def sum_along(
    x: NDArray[np.float64],
    plane: int,
    n: int,
    window: int,
    phase: int,
    tails: NDArray[np.float64],
    weight: NDArray[np.float64],
    formula: int,
    terms: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """What a formula makes of the sums along a row of vectors, for windows from its first `n` on.

    Parameters
    ----------
    x : ndarray of float64, shape (5 * plane,)
        Plane by plane ``n + window - 1`` vectors.
    phase : int
        How far into a block the first vector lies.
    tails : ndarray of float64, shape (at least 5 * window * 8,)
        Room to work in.
    weight : ndarray of float64, shape (n * 8,)
        Of the windows.
    formula, terms
        See `formulas`.
    out : ndarray of float64, shape (n * 8,)
    """
    length = n + window - 1
    edge = window * LANES
    nothing = splat(0.0)
    for begin in range(-phase % window, length, window):
        # The windows that end in this block begin in the one before, but for the last.
        least = max(begin - window + 1, 0)
        a, b, c, d, e = nothing, nothing, nothing, nothing, nothing
        for i in range(begin - 1, least - 1, -1):
            at = i * LANES
            a, b, c = a + load(x, at), b + load(x, at + plane), c + load(x, at + 2 * plane)
            d, e = d + load(x, at + 3 * plane), e + load(x, at + 4 * plane)
            at = (i - least) * LANES
            store(tails, at, a)
            store(tails, at + edge, b)
            store(tails, at + 2 * edge, c)
            store(tails, at + 3 * edge, d)
            store(tails, at + 4 * edge, e)
        # The last window has no tail. (Adding zeros for it would change no sum but -0.)
        last = (begin - least) * LANES
        for k in range(QUANTITIES):
            store(tails, last + k * edge, nothing)
        a, b, c, d, e = nothing, nothing, nothing, nothing, nothing
        for i in range(begin, min(begin + window, length)):
            at = i * LANES
            a, b, c = a + load(x, at), b + load(x, at + plane), c + load(x, at + 2 * plane)
            d, e = d + load(x, at + 3 * plane), e + load(x, at + 4 * plane)
            first = i - window + 1
            if first < 0:
                continue
            at, to = (first - least) * LANES, first * LANES
            f, g = a + load(tails, at), b + load(tails, at + edge)
            h, p = c + load(tails, at + 2 * edge), d + load(tails, at + 3 * edge)
            q = e + load(tails, at + 4 * edge)
            store(out, to, evaluate(formula, terms, load(weight, to), f, g, h, p, q))
