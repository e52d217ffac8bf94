"""Spatial lags of a tile: each pixel's mean over its valid neighbours.

The weights of Moran's and Lee's statistics on a raster: queen (8 neighbours) or rook (4)
contiguity, row-standardised at the raster's edge and over valid neighbours. One tile in, rows of a
matrix product out.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bigcorr.kernels.cells import ByteArray, FloatArray, TileArray


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
    line = np.empty(across)
    for k in range(channels.shape[0]):
        tile = tiles[channels[k]]
        out = rows[k]
        total = 0.0
        for i in range(y0, y1):
            for j in range(across):
                line[j] = 0.0
            for y in range(max(i - 1, 0), min(i + 2, height)):
                row = tile[y]
                if queen or y == i:
                    low, high = max(x0 - 1, 0), min(x1 - 1, width)
                    for x in range(low, high):
                        line[x + 1 - x0] += row[x]
                    low, high = max(x0 + 1, 0), min(x1 + 1, width)
                    for x in range(low, high):
                        line[x - 1 - x0] += row[x]
                if y != i:
                    for x in range(x0, x1):
                        line[x - x0] += row[x]
            near = counts[i]
            start = (i - y0) * across
            for j in range(across):
                number = near[x0 + j]
                value = line[j] / number if number > 0 else 0.0
                out[start + j] = value
                total += value
        for j in range((y1 - y0) * across, out.shape[0]):
            out[j] = 0
        sums[channels[k]] += total
