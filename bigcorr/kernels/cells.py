"""Standardised tiles and their cells: from blurred pixels to the rows of a Gram matrix.

A tile of one channel becomes ``z = (x - offset) / scale``, in float32 or, where rasters are small,
float64; 32 x 32 cells of it become rows of 1024 numbers, the slice of every matrix product. Nothing
here knows of channels' names, files or measures.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

CELL = 32
"""Side of a cell in pixels: a slice of 1024 pixels keeps float32 products right to 1e-6."""

FloatArray = NDArray[np.float64]
TileArray = NDArray[np.floating]
ByteArray = NDArray[np.uint8]


@njit(cache=True, nogil=True)
def standardise(
    x: FloatArray, valid: ByteArray, masked: bool, offset: float, inverse_scale: float, z: TileArray
) -> None:
    """Write ``(x - offset) * inverse_scale`` to `z`, 0 where not valid.

    x : (h, w) float64; valid : (h, w) uint8, read only if `masked`; z : (h, w) float32 or float64.
    """
    height, width = x.shape
    for i in range(height):
        row, out = x[i], z[i]
        if masked:
            ok = valid[i]
            for j in range(width):
                out[j] = (row[j] - offset) * inverse_scale if ok[j] else 0.0
        else:
            for j in range(width):
                out[j] = (row[j] - offset) * inverse_scale


@njit(cache=True, nogil=True)
def mark_cells(z: TileArray, marks: ByteArray) -> None:
    """Set ``marks[i, j]`` where cell (i, j) of `z` holds anything but zeros.

    z : (h, w); marks : (ceil(h / 32), ceil(w / 32)) uint8.
    """
    height, width = z.shape
    marks[:] = 0
    for i in range(height):
        row = z[i]
        out = marks[i // CELL]
        for cell in range(out.shape[0]):
            if out[cell] == 0:
                part = row[cell * CELL : min((cell + 1) * CELL, width)]
                largest = part[0] * 0
                for j in range(part.shape[0]):
                    largest = max(largest, abs(part[j]))
                if largest > 0:
                    out[cell] = 1


@njit(cache=True, nogil=True)
def cell_rows(
    tiles: TileArray,
    channels: NDArray[np.int64],
    y0: int,
    y1: int,
    x0: int,
    x1: int,
    rows: TileArray,
    sums: FloatArray,
    squares: FloatArray,
) -> None:
    """Gather one cell of the given channels as rows, and add its float64 moments.

    tiles : (channel, h, w); rows : (len(channels), 1024) of its dtype, the cell row by row and
    zeros behind it where the cell is smaller; sums, squares : (channel,) float64, added to.
    """
    height, width = y1 - y0, x1 - x0
    for k in range(channels.shape[0]):
        c = channels[k]
        out = rows[k]
        total = 0.0
        square = 0.0
        for i in range(height):
            part = tiles[c, y0 + i, x0:x1]
            target = out[i * width : (i + 1) * width]
            for j in range(width):
                target[j] = part[j]
        # Eight fixed lanes: the sum vectorises and its order never depends on the tile.
        lanes = np.zeros(8)
        lanes2 = np.zeros(8)
        size = height * width
        whole = size - size % 8
        for start in range(0, whole, 8):
            chunk = out[start : start + 8]
            for lane in range(8):
                value = np.float64(chunk[lane])
                lanes[lane] += value
                lanes2[lane] += value * value
        for lane in range(8):
            total += lanes[lane]
            square += lanes2[lane]
        for j in range(whole, size):
            value = np.float64(out[j])
            total += value
            square += value * value
        out[size:] = 0
        sums[c] += total
        squares[c] += square


@njit(cache=True, nogil=True)
def add_upper(
    total: FloatArray,
    product: NDArray[np.floating],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    symmetric: bool,
) -> None:
    """``total[rows[i], columns[j]] += product[i, j]``; if `symmetric` only where j >= i.

    total : float64 matrix; product : (len(rows), len(columns)); rows and columns ascend.
    """
    count = columns.shape[0]
    if count == 0:
        return
    dense = columns[count - 1] - columns[0] + 1 == count
    for i in range(rows.shape[0]):
        first = i if symmetric else 0
        source = product[i, first:]
        if dense:
            start = columns[first]
            target = total[rows[i], start : start + source.shape[0]]
            for j in range(source.shape[0]):
                target[j] += source[j]
        else:
            target = total[rows[i]]
            for j in range(source.shape[0]):
                target[columns[first + j]] += source[j]
