"""Spatial lags of a tile: each pixel's mean over its valid neighbours.

The weights of Moran's and Lee's statistics on a raster: queen (8 neighbours) or rook (4)
contiguity, row-standardised at the raster's edge and over valid neighbours. One tile in, rows of a
matrix product out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cells import ByteArray, FloatArray, TileArray
from bigcorr.kernels.jit import njit


@njit(cache=True, nogil=True)
def neighbour_counts(
    valid: ByteArray, masked: bool, height: int, width: int, queen: bool, counts: ByteArray
) -> None:
    """Valid neighbours of each pixel of a tile; 0 for pixels that are not valid themselves.

    valid : (height, width) uint8, read only if `masked`; counts : (height, width) uint8.
    """
    for i in range(height):
        for j in range(width):
            total = 0
            if not masked or valid[i, j] != 0:
                for di in range(-1, 2):
                    for dj in range(-1, 2):
                        y, x = i + di, j + dj
                        near = (di != 0 or dj != 0) and (queen or di == 0 or dj == 0)
                        inside = 0 <= y < height and 0 <= x < width
                        if near and inside and (not masked or valid[y, x] != 0):
                            total += 1
            counts[i, j] = total


@njit(cache=True, nogil=True)
def lag_rows(
    tiles: TileArray,
    channels: NDArray[np.int64],
    counts: ByteArray,
    y0: int,
    y1: int,
    x0: int,
    x1: int,
    queen: bool,
    rows: TileArray,
    sums: FloatArray,
) -> None:
    """Gather the lag of one cell of the given channels as rows, and add its sums.

    tiles : (channel, h, w), zeros where not valid; what lies outside is outside the raster.
    counts : (h, w) of `neighbour_counts`; rows : (len(channels), 1024) of the dtype of `tiles`,
    zeros where a pixel has no valid neighbour and behind the cell; sums : (channel,) added to.
    """
    height, width = tiles.shape[1], tiles.shape[2]
    across = x1 - x0
    size = (y1 - y0) * across
    # Columns of the cell and one on each side; those outside the raster stay 0.
    low, high = max(x0 - 1, 0), min(x1 + 1, width)
    shift = low - (x0 - 1)
    beside, own = np.zeros(across + 2), np.zeros(across + 2)
    nothing = np.zeros(high - low, tiles.dtype)
    line, total = np.empty(across), np.empty(across)
    most = 8 if queen else 4
    full = _all_have(counts[y0:y1, x0:x1], most)
    for k in range(channels.shape[0]):
        tile = tiles[channels[k]]
        out = rows[k]
        total[:] = 0.0
        for i in range(y0, y1):
            above = tile[i - 1, low:high] if i > 0 else nothing
            below = tile[i + 1, low:high] if i + 1 < height else nothing
            _add_rows(above, below, tile[i, low:high], queen, beside[shift:], own[shift:])
            for j in range(across):
                line[j] = (own[j] + own[j + 2]) + beside[j + 1]
            if full:
                for j in range(across):
                    line[j] *= 1.0 / most
            else:
                near = counts[i, x0:x1]
                for j in range(across):
                    line[j] = line[j] / near[j] if near[j] > 0 else 0.0
            target = out[(i - y0) * across : (i - y0 + 1) * across]
            for j in range(across):
                target[j] = line[j]
            for j in range(across):
                total[j] += line[j]
        out[size:] = 0
        for j in range(across):
            sums[channels[k]] += total[j]


@njit(cache=True, nogil=True)
def _all_have(counts: ByteArray, number: int) -> bool:
    for line in counts:
        for each in line:
            if each != number:
                return False
    return True


@njit(cache=True, nogil=True)
def _add_rows(
    above: NDArray[np.floating],
    below: NDArray[np.floating],
    row: NDArray[np.floating],
    queen: bool,
    beside: FloatArray,
    own: FloatArray,
) -> None:
    """The sums of the rows next to a row; the row itself, with these where corners count."""
    for j in range(row.shape[0]):
        beside[j] = np.float64(above[j]) + below[j]
    for j in range(row.shape[0]):
        own[j] = row[j]
    if queen:
        for j in range(row.shape[0]):
            own[j] += beside[j]
