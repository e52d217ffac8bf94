"""Standardised tiles and their cells: from blurred pixels to the rows of a Gram matrix.

A tile of one channel becomes ``z = (x - offset) / scale``, in float32 or, where rasters are small,
float64; 32 x 32 cells of it become rows of 1024 numbers, the slice of every matrix product. Nothing
here knows of channels' names, files or measures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.rows import fetch
from bigcorr.kernels.vectors import LANES, fma, if_greater, load, splat, store

CELL = 32
"""Side of a cell in pixels: a slice of 1024 pixels keeps float32 products right to 1e-6."""
FETCH = 16
"""Pixels from one that is asked for ahead to the next: at most a cache line."""
AHEAD = 4
"""Rows between the one that is worked on and the one that is asked of memory."""
STRETCH = 4096
"""Pixels that are summed on their own."""

NO_MASK = np.zeros((0, 0), np.uint8)
"""What is given for a mask where all pixels are valid."""

FloatArray = NDArray[np.float64]
TileArray = NDArray[np.floating]
ByteArray = NDArray[np.uint8]


@njit(cache=True, nogil=True)
def standardise(
    x: NDArray[Any],
    pitch: int,
    valid: ByteArray,
    masked: bool,
    offset: float,
    inverse_scale: float,
    z: TileArray,
) -> None:
    """Write ``(x - offset) * inverse_scale`` to `z`, 0 where not valid.

    x, pitch : rows of uint8, uint16, float32 or float64, as `rows_of` gives them; valid : (h, w)
    uint8, read only if `masked`; z : (h, w) float32 or float64.
    """
    height, width = z.shape
    for i in range(height):
        row, out = x[i * pitch : i * pitch + width], z[i]
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
    ends = np.empty(2 * LANES)
    for k in range(channels.shape[0]):
        c = channels[k]
        out = rows[k]
        total = square = 0.0
        ahead = channels[min(k + 2, channels.shape[0] - 1)]
        # Eight fixed lanes: the sums vectorise and their order never depends on the tile.
        lanes, lanes2 = splat(0.0), splat(0.0)
        whole = width - width % LANES
        for i in range(height):
            soon = tiles[ahead, y0 + i, x0:x1]
            for j in range(0, width, FETCH):
                fetch(soon, j)
            part = tiles[c, y0 + i, x0:x1]
            for j in range(0, whole, LANES):
                values = load(part, j)
                store(out, i * width + j, values)
                lanes, lanes2 = lanes + values, fma(values, values, lanes2)
            for j in range(whole, width):
                out[i * width + j] = part[j]
                total += np.float64(part[j])
                square += np.float64(part[j]) ** 2
        out[height * width :] = 0
        store(ends, 0, lanes)
        store(ends, LANES, lanes2)
        for lane in range(LANES):
            total += ends[lane]
            square += ends[LANES + lane]
        sums[c] += total
        squares[c] += square


@njit(cache=True, nogil=True)
def standardise_cells(
    x: NDArray[Any],
    pitch: int,
    height: int,
    width: int,
    valid: ByteArray,
    masked: bool,
    offset: float,
    inverse_scale: float,
    channel: int,
    cells: TileArray,
    sums: FloatArray,
    squares: FloatArray,
    marks: ByteArray,
) -> None:
    """What `standardise`, `mark_cells` and `cell_rows` do for one channel, in one go.

    x, pitch : h rows of w of uint8, uint16, float32 or float64, as `rows_of` gives them; valid :
    (h, w) uint8, read only if `masked`; cells : (ceil(h / 32), ceil(w / 32), channel, 1024), of
    which the channel's rows are written: each cell row by row, zeros behind it where it is smaller;
    sums, squares, marks : (channel, ceil(h / 32), ceil(w / 32)), written likewise.
    """
    centre, inverse = splat(offset), splat(inverse_scale)
    ends = np.empty(2 * LANES)
    for i in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            y0, y1 = i * CELL, min((i + 1) * CELL, height)
            x0, x1 = j * CELL, min((j + 1) * CELL, width)
            out = cells[i, j, channel]
            total = square = 0.0
            # The lanes of `cell_rows`, in its order: either way gives the same bits.
            lanes, lanes2 = splat(0.0), splat(0.0)
            if x1 - x0 == CELL and not masked:
                for y in range(y0, y1):
                    start, at = y * pitch + x0, (y - y0) * CELL
                    for k in range(0, CELL, LANES):
                        store(out, at + k, (load(x, start + k) - centre) * inverse)
                    for k in range(0, CELL, LANES):
                        values = load(out, at + k)
                        lanes, lanes2 = lanes + values, fma(values, values, lanes2)
            else:
                across = x1 - x0
                whole = across - across % LANES
                for y in range(y0, y1):
                    part, at = x[y * pitch + x0 : y * pitch + x1], (y - y0) * across
                    for k in range(across):
                        known = not masked or valid[y, x0 + k] != 0
                        out[at + k] = (part[k] - offset) * inverse_scale if known else 0.0
                    for k in range(0, whole, LANES):
                        values = load(out, at + k)
                        lanes, lanes2 = lanes + values, fma(values, values, lanes2)
                    for k in range(whole, across):
                        total += np.float64(out[at + k])
                        square += np.float64(out[at + k]) ** 2
            out[(y1 - y0) * (x1 - x0) :] = 0
            store(ends, 0, lanes)
            store(ends, LANES, lanes2)
            for lane in range(LANES):
                total += ends[lane]
                square += ends[LANES + lane]
            sums[channel, i, j] = total
            squares[channel, i, j] = square
            marks[channel, i, j] = square > 0


@njit(cache=True, nogil=True)
def cell_totals(tiles: TileArray, y0: int, y1: int, x0: int, x1: int, sums: FloatArray) -> None:
    """Sums of the cells of a box of each tile, with the bits of `cell_rows`.

    tiles : (channel, h, w); sums : (channel, ceil(height / 32), ceil(width / 32)), written.
    """
    ends = np.empty(LANES)
    for c in range(tiles.shape[0]):
        for i in range(sums.shape[1]):
            for j in range(sums.shape[2]):
                left, right = x0 + j * CELL, min(x0 + (j + 1) * CELL, x1)
                whole = right - left - (right - left) % LANES
                total, lanes = 0.0, splat(0.0)
                for y in range(y0 + i * CELL, min(y0 + (i + 1) * CELL, y1)):
                    part = tiles[c, y, left:right]
                    for k in range(0, whole, LANES):
                        lanes = lanes + load(part, k)
                    for k in range(whole, right - left):
                        total += np.float64(part[k])
                store(ends, 0, lanes)
                for lane in range(LANES):
                    total += ends[lane]
                sums[c, i, j] = total


@njit(cache=True, nogil=True)
def pixel_moments(x: NDArray[Any]) -> tuple[float, float, float, float]:
    """Mean, sum of squares about the mean, minimum and maximum of at least one pixel.

    x : (n,) of uint8, uint16, float32 or float64. Stretches are summed on their own, in eight
    lanes, so that what a sum loses does not grow with it.
    """
    total, low, high = 0.0, splat(np.inf), splat(-np.inf)
    ends = np.empty(LANES)
    whole = x.size - x.size % LANES
    for begin in range(0, whole, STRETCH):
        lanes = splat(0.0)
        for start in range(begin, min(begin + STRETCH, whole), LANES):
            values = load(x, start)
            lanes = lanes + values
            low, high = if_greater(low, values, values, low), if_greater(values, high, values, high)
        store(ends, 0, lanes)
        total += ends.sum()
    store(ends, 0, low)
    least = ends.min()
    store(ends, 0, high)
    most = ends.max()
    for j in range(whole, x.size):
        total += x[j]
        least, most = min(least, np.float64(x[j])), max(most, np.float64(x[j]))
    mean = total / x.size
    centre, square = splat(mean), 0.0
    for begin in range(0, whole, STRETCH):
        lanes = splat(0.0)
        for start in range(begin, min(begin + STRETCH, whole), LANES):
            values = load(x, start) - centre
            lanes = fma(values, values, lanes)
        store(ends, 0, lanes)
        square += ends.sum()
    for j in range(whole, x.size):
        square += (x[j] - mean) ** 2
    return mean, square, least, most


@njit(cache=True, nogil=True)
def pixel_total(x: NDArray[Any]) -> int:
    """The sum of unsigned integers of at most 32 bits. x : (h, w), rows without gaps."""
    total = np.int64(0)
    for i in range(x.shape[0]):
        line, part = x[i], np.uint64(0)
        for j in range(line.size):
            part += np.uint64(line[j])
        total += np.int64(part)
    return int(total)


@njit(cache=True, nogil=True)
def pixel_sum(x: NDArray[Any], pitch: int, height: int, width: int) -> float:
    """The sum of the pixels in eight lanes of float64, row by row; x, pitch : as of `rows_of`."""
    ends = np.empty(LANES)
    total, whole = 0.0, width - width % LANES
    for i in range(height):
        line = x[i * pitch : i * pitch + width]
        # A part of an image: its next rows lie where no processor expects them.
        soon = x[min(i + AHEAD, height - 1) * pitch :]
        for j in range(0, width, FETCH):
            fetch(soon, j)
        lanes = splat(0.0)
        for j in range(0, whole, LANES):
            lanes = lanes + load(line, j)
        store(ends, 0, lanes)
        for lane in range(LANES):
            total += ends[lane]
        for j in range(whole, width):
            total += np.float64(line[j])
    return total


@njit(cache=True, nogil=True)
def pixels_not_zero(x: NDArray[Any], pitch: int, height: int, width: int) -> int:
    """How many pixels are not zero; x, pitch : rows of float32 or float64, as of `rows_of`."""
    ends = np.empty(LANES)
    total, whole = 0, width - width % LANES
    one, none = splat(1.0), splat(0.0)
    for i in range(height):
        line = x[i * pitch : i * pitch + width]
        lanes = splat(0.0)
        for j in range(0, whole, LANES):
            values = load(line, j)
            below = if_greater(none, values, one, none)
            lanes = lanes + if_greater(values, none, one, below)
        for j in range(whole, width):
            total += line[j] != 0
        store(ends, 0, lanes)
        total += int(ends.sum())
    return total


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
