"""Windows of a tile as unit vectors: the features of windowed NCC.

Each window of each channel is centred on its own mean, scaled to unit norm and weighted by its
contrast (REFERENCE: ``k^2 = ss / (ss + floor^2 sd^2 w^2)``), so that a matrix product over patches
adds up the window correlations of all pairs at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

CONSTANT = {np.dtype(np.float32): 2.0**-21, np.dtype(np.float64): 2.0**-30}
"""A window counts as constant where its sd is below this part of its largest absolute value.

The values are about the channel's offset: below it there is rounding and little else.
"""
DUST = 1e-10
"""So does one whose sd is below this part of the channel's: what a blur leaves of a constant."""


@njit(cache=True, nogil=True)
def patch_rows(
    tiles: NDArray[np.floating],
    valid: NDArray[np.uint8],
    channels: NDArray[np.int64],
    marks: NDArray[np.uint8],
    cell: int,
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
    marks : (channel, cells_y, cells_x) uint8, 0 where a cell of `tiles` is all zero.
    corners : (n,) left edges of the windows in the tile.
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
    masked = valid.shape[0] > 0
    kept = 0
    for index in range(channels.shape[0]):
        c = channels[index]
        mask = c if valid.shape[0] > 1 else 0
        out = rows[kept]
        some = False
        for n in range(count):
            x0 = corners[n]
            patch = out[n * area : (n + 1) * area]
            weight = 0.0
            number = area
            if masked:
                number = 0
                for i in range(window):
                    ok = valid[mask, y0 + i, x0 : x0 + window]
                    for j in range(window):
                        number += ok[j]
            alive[c, n] = number >= least
            busy = False
            for i in range(y0 // cell, (y0 + window - 1) // cell + 1):
                for j in range(x0 // cell, (x0 + window - 1) // cell + 1):
                    busy |= marks[c, i, j] != 0
            if busy and number >= least:
                total = 0.0
                for i in range(window):
                    part = tiles[c, y0 + i, x0 : x0 + window]
                    target = patch[i * window : (i + 1) * window]
                    for j in range(window):
                        target[j] = part[j]
                lanes = np.zeros(8)
                peaks = np.zeros(8)
                whole = area - area % 8
                for start in range(0, whole, 8):
                    chunk = patch[start : start + 8]
                    for lane in range(8):
                        lanes[lane] += np.float64(chunk[lane])
                        peaks[lane] = max(peaks[lane], abs(chunk[lane]))
                largest = 0.0
                for lane in range(8):
                    total += lanes[lane]
                    largest = max(largest, peaks[lane])
                for j in range(whole, area):
                    total += patch[j]
                    largest = max(largest, abs(patch[j]))
                mean = total / number
                lanes[:] = 0.0
                for start in range(0, whole, 8):
                    chunk = patch[start : start + 8]
                    for lane in range(8):
                        difference = np.float64(chunk[lane]) - mean
                        lanes[lane] += difference * difference
                square = 0.0
                for lane in range(8):
                    square += lanes[lane]
                for j in range(whole, area):
                    difference = patch[j] - mean
                    square += difference * difference
                # Pixels that are not valid hold 0 and have added mean^2 each.
                square -= (area - number) * mean * mean
                if square > number * max((constant * largest) ** 2, DUST**2):
                    weight = square / (square + floors[c])
                    factor = np.sqrt(weight / square)
                    for j in range(area):
                        patch[j] = (patch[j] - mean) * factor
                    if number < area:
                        for i in range(window):
                            ok = valid[mask, y0 + i, x0 : x0 + window]
                            target = patch[i * window : (i + 1) * window]
                            for j in range(window):
                                if ok[j] == 0:
                                    target[j] = 0
            weights[c, n] = weight
            if weight > 0:
                some = True
            else:
                patch[:] = 0
        if some:
            channels[kept] = c
            kept += 1
    return kept
