"""Windows of a tile as unit vectors: the features of windowed NCC.

Each window of each channel is centred on its own mean, scaled to unit norm and weighted by its
contrast (REFERENCE: ``k^2 = ss / (ss + floor^2 sd^2 w^2)``), so that a matrix product over patches
adds up the window correlations of all pairs at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cells import CELL, FETCH
from bigcorr.kernels.jit import njit
from bigcorr.kernels.rows import fetch
from bigcorr.kernels.vectors import LANES, if_greater, load, splat, store

FloatArray = NDArray[np.float64]

CONSTANT = {np.dtype(np.float32): 2.0**-21, np.dtype(np.float64): 2.0**-30}
"""A window counts as constant where its sd is below this part of its largest absolute value.

The values are about the channel's offset: below it there is rounding and little else.
"""
DUST = 1e-10
"""So does one whose sd is below this part of the channel's: what a blur leaves of a constant."""

AHEAD = 2
"""Channels between the one that is worked on and the one that is asked of memory."""


@njit(cache=True, nogil=True)
def _gather(
    tiles: NDArray[np.floating], c: int, y0: int, x0: int, window: int, patch: NDArray[np.floating]
) -> None:
    """Lay the rows of a window one behind the other."""
    for i in range(window):
        part = tiles[c, y0 + i, x0 : x0 + window]
        if window % LANES == 0:
            for j in range(0, window, LANES):
                store(patch, i * window + j, load(part, j))
        else:
            target = patch[i * window : (i + 1) * window]
            for j in range(window):
                target[j] = part[j]


@njit(cache=True, nogil=True)
def _sums(
    out: NDArray[np.floating], area: int, total: FloatArray, largest: FloatArray, ends: FloatArray
) -> None:
    """Sum and largest absolute value of each patch, in eight lanes that no tile can change."""
    whole = area - area % LANES
    for n in range(total.size):
        lanes, high, low = splat(0.0), splat(0.0), splat(0.0)
        for start in range(n * area, n * area + whole, LANES):
            values = load(out, start)
            lanes = lanes + values
            high = if_greater(values, high, values, high)
            low = if_greater(low, values, values, low)
        store(ends, 0, lanes)
        s = 0.0
        for lane in range(LANES):
            s += ends[lane]
        low = splat(0.0) - low
        store(ends, 0, if_greater(low, high, low, high))
        peak = 0.0
        for lane in range(LANES):
            peak = max(peak, ends[lane])
        for j in range(n * area + whole, (n + 1) * area):
            s += out[j]
            peak = max(peak, abs(np.float64(out[j])))
        total[n], largest[n] = s, peak


@njit(cache=True, nogil=True)
def _squares(
    out: NDArray[np.floating], area: int, mean: FloatArray, square: FloatArray, ends: FloatArray
) -> None:
    """Sum of squares of each patch about its mean, in the same lanes."""
    whole = area - area % LANES
    for n in range(mean.size):
        lanes, centre = splat(0.0), splat(mean[n])
        for start in range(n * area, n * area + whole, LANES):
            difference = load(out, start) - centre
            lanes = lanes + difference * difference
        store(ends, 0, lanes)
        s = 0.0
        for lane in range(LANES):
            s += ends[lane]
        for j in range(n * area + whole, (n + 1) * area):
            s += (out[j] - mean[n]) ** 2
        square[n] = s


@njit(cache=True, nogil=True)
def _rescale(patch: NDArray[np.floating], mean: float, factor: float) -> None:
    whole = patch.size - patch.size % LANES
    centre, by = splat(mean), splat(factor)
    for start in range(0, whole, LANES):
        store(patch, start, (load(patch, start) - centre) * by)
    for j in range(whole, patch.size):
        patch[j] = (patch[j] - mean) * factor


@njit(cache=True, nogil=True)
def _count(valid: NDArray[np.uint8], c: int, y0: int, x0: int, window: int) -> int:
    """Valid pixels of a window."""
    number = 0
    for i in range(window):
        ok = valid[c, y0 + i, x0 : x0 + window]
        for j in range(window):
            number += ok[j]
    return number


@njit(cache=True, nogil=True)
def _busy(marks: NDArray[np.uint8], c: int, y0: int, x0: int, window: int) -> bool:
    """Whether a window meets any cell that is not all zero."""
    found = False
    for i in range(y0 // CELL, (y0 + window - 1) // CELL + 1):
        for j in range(x0 // CELL, (x0 + window - 1) // CELL + 1):
            found |= marks[c, i, j] != 0
    return found


@njit(cache=True, nogil=True)
def patch_rows(
    tiles: NDArray[np.floating],
    valid: NDArray[np.uint8],
    channels: NDArray[np.int64],
    marks: NDArray[np.uint8],
    y0: int,
    corners: NDArray[np.int64],
    window: int,
    least: int,
    floors: NDArray[np.float64],
    constant: float,
    rows: NDArray[np.floating],
    weights: NDArray[np.floating],
    alive: NDArray[np.uint8],
) -> int:
    """Fill `rows` with the weighted unit patches of the windows at ``(y0, corners)``.

    Parameters
    ----------
    tiles : (channel, h, w) float32 or float64, zeros where not valid.
    valid : (1 or channel, h, w) uint8, or (0, 0, 0) where every pixel is valid.
    channels : channels to look at.
    marks : (channel, cells_y, cells_x) uint8, 0 where a 32 x 32 cell of `tiles` is all zero.
    corners : (n,) left edges of the windows in the tile, ascending.
    least : valid pixels that a window must have.
    floors : (channel,) ``floor^2 sd^2 w^2`` in units of `tiles`.
    constant : of `CONSTANT`.
    rows : (len(channels), n * w * w) of the dtype of `tiles`; row i is written for the
        i-th channel returned.
    weights : (channel, n) of the dtype of `tiles` gets k^2, zero for channels left out.
    alive : (channel, n) uint8 gets 1 where the window has enough valid pixels.

    Returns
    -------
    int
        The number of channels with any weight; ``channels[:that]`` lists them (in order).
    """
    count = corners.shape[0]
    area = window * window
    own = valid.shape[0] > 1
    ends = np.empty(LANES)
    mean, largest, square, weight, factor = np.empty((5, count))
    # Of a mask for all channels windows are counted once.
    numbers = np.full(count, area)
    if valid.shape[0] == 1:
        for n in range(count):
            numbers[n] = _count(valid, 0, y0, corners[n], window)
    left, right = corners[0], corners[count - 1] + window
    kept = 0
    for index in range(channels.shape[0]):
        c = channels[index]
        out = rows[kept]
        soon = channels[min(index + AHEAD, channels.shape[0] - 1)]
        for i in range(y0, y0 + window):
            line = tiles[soon, i, left:right]
            for j in range(0, line.size, FETCH):
                fetch(line, j)
        # What is done for one window after the other is short, so that they overlap in time.
        some = False
        for n in range(count):
            number = _count(valid, c, y0, corners[n], window) if own else numbers[n]
            numbers[n] = number
            alive[c, n] = number >= least
            patch = out[n * area : (n + 1) * area]
            if number >= least and _busy(marks, c, y0, corners[n], window):
                _gather(tiles, c, y0, corners[n], window, patch)
                some = True
            else:
                patch[:] = 0
        weights[c] = 0
        if not some:
            continue
        _sums(out, area, mean, largest, ends)
        for n in range(count):
            mean[n] /= numbers[n] if numbers[n] else 1
        _squares(out, area, mean, square, ends)
        some = False
        for n in range(count):
            # Pixels that are not valid hold 0 and have added mean^2 each.
            square[n] -= (area - numbers[n]) * mean[n] * mean[n]
            weight[n] = factor[n] = 0.0
            if square[n] > numbers[n] * max((constant * largest[n]) ** 2, DUST**2):
                weight[n] = square[n] / (square[n] + floors[c])
                factor[n] = np.sqrt(weight[n] / square[n])
                some = True
            weights[c, n] = weight[n]
        for n in range(count):
            patch = out[n * area : (n + 1) * area]
            _rescale(patch, mean[n], factor[n])
            if numbers[n] < area and weight[n] > 0:
                for i in range(window):
                    ok = valid[c if own else 0, y0 + i, corners[n] : corners[n] + window]
                    target = patch[i * window : (i + 1) * window]
                    for j in range(window):
                        if ok[j] == 0:
                            target[j] = 0
        if some:
            channels[kept] = c
            kept += 1
    return kept
