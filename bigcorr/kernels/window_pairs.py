"""Structural similarity of pairs of channels over the stride windows of one patch of a tile.

The sums of a window over one channel are made once for each channel, those over products for each
pair. A patch is 32 x 128 window corners of the global grid: sums along y run from window to window
and begin anew in every patch, sums along x go by the tree of `row_sums`. So the bits of a pair
do not depend on tiles, nor on the channels beside it. Arrays in, arrays out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.row_sums import Tree, sum_along_rows
from bigcorr.kernels.vectors import LANES, fma, load, splat, store

PATCH = (32, 128)
"""Window corners, rows and columns, of a patch: a canonical unit, like the cells of `cells`."""

ROWS = 8
"""Rows of windows of a patch that are worked on at a time."""

FloatArray = NDArray[np.float64]


class Corners(NamedTuple):
    """The windows of a patch that count, row by row.

    tops : (rows,) first pixel row of each row of windows
    ends : (rows + 1,) where the windows of each row begin in the other arrays
    places : (windows,) first pixel column of each
    share : (windows,) 1 / n, with n the valid pixels of a window
    product : (windows,) by what a sum of products is multiplied for twice the covariance
    centre : (windows,) and by what a product of means
    """

    tops: NDArray[np.int64]
    ends: NDArray[np.int64]
    places: NDArray[np.int64]
    share: FloatArray
    product: FloatArray
    centre: FloatArray


class Channels(NamedTuple):
    """Some channels of a patch.

    pixels : (channel, h * pitch) about the level of each, row by row
    level : (channel,)
    mean : (channel, windows) about the level
    spread : (channel, windows) variance + c2 / 2
    alone : (channel,) sum of the index against a channel that is 0 throughout, less one a window
    """

    pixels: FloatArray
    level: FloatArray
    mean: FloatArray
    spread: FloatArray
    alone: FloatArray


def make_channels(count: int, window: int, stride: int) -> Channels:
    """Room for `count` channels of a patch."""
    windows = math.prod(-(-side // stride) for side in PATCH)
    return Channels(
        np.empty((count, (PATCH[0] + window - 1) * _pitch(window))),
        np.empty(count),
        np.empty((count, windows)),
        np.empty((count, windows)),
        np.empty(count),
    )


def _pitch(window: int) -> int:
    """Numbers from one row of pixels to the next: whole vectors."""
    return -(-(PATCH[1] + window - 1) // LANES) * LANES


def channel_bytes(window: int, stride: int) -> int:
    """Bytes of one channel in `Channels`."""
    return sum(part.nbytes for part in make_channels(1, window, stride))


class Room(NamedTuple):
    """Working memory for some rows of windows at a time, `pitch` apart.

    work : (levels, ROWS * pitch + a window) sums along y, and of 3, 9, ... of these
    """

    pitch: int
    work: FloatArray
    sums: FloatArray
    picked: FloatArray
    total: FloatArray


def make_room(window: int, tree: Tree) -> Room:
    """Room for the sums of a pair at a time."""
    pitch = _pitch(window)
    size = ROWS * pitch
    return Room(
        pitch,
        np.zeros((tree.levels, size + window + LANES)),
        np.empty(size),
        np.empty(ROWS * PATCH[1]),
        np.empty(ROWS * PATCH[1]),
    )


@njit(cache=True, nogil=True)
def _sum_rows(
    a: FloatArray, b: FloatArray, pitch: int, top: int, window: int, out: FloatArray
) -> None:
    """Sums of products along y of the windows from row `top` on."""
    for j in range(0, pitch, LANES):
        total = splat(0.0)
        for i in range(top * pitch + j, (top + window) * pitch + j, pitch):
            total = fma(load(a, i), load(b, i), total)
        store(out, j, total)


@njit(cache=True, nogil=True)
def _slide_rows(
    a: FloatArray,
    b: FloatArray,
    pitch: int,
    top: int,
    steps: int,
    rows: int,
    window: int,
    last: FloatArray,
    out: FloatArray,
) -> None:
    """The same of `rows` rows of windows, each `steps` further down, the first from row `top`.

    last : the sums from row `top` on
    """
    for j in range(0, pitch, LANES):
        total = load(last, j)
        at = top * pitch + j
        for row in range(rows):
            for _ in range(steps):
                new = at + window * pitch
                total = fma(load(a, new), load(b, new), total) - load(a, at) * load(b, at)
                at += pitch
            store(out, row * pitch + j, total)


@njit(cache=True, nogil=True)
def window_sums(
    a: FloatArray, b: FloatArray, corners: Corners, row: int, window: int, tree: Tree, room: Room
) -> FloatArray:
    """Sums of a b over the windows of the `ROWS` rows of windows from `row` on, in order.

    Rows are asked for one after the other: the first goes on from the last of those before it.
    """
    # What the tuples hold is read out once: it is not free in a loop.
    pitch, tops, ends, starts = room.pitch, corners.tops, corners.ends, corners.places
    band, sums, picked = room.work[0], room.sums, room.picked
    end = min(row + ROWS, tops.size)
    steps = tops[1] - tops[0] if tops.size > 1 else window
    if 2 * steps >= window:
        for r in range(row, end):
            _sum_rows(a, b, pitch, tops[r], window, band[(r - row) * pitch :])
    elif row == 0:
        _sum_rows(a, b, pitch, tops[0], window, band)
        _slide_rows(a, b, pitch, tops[0], steps, end - 1, window, band, band[pitch:])
    else:
        last = band[(ROWS - 1) * pitch :]
        _slide_rows(a, b, pitch, tops[row - 1], steps, end - row, window, last, band)
    sum_along_rows(room.work, tree, (end - row) * pitch, sums)
    first = ends[row]
    for r in range(row, end):
        to, count, at = ends[r] - first, ends[r + 1] - ends[r], (r - row) * pitch
        if count == PATCH[1]:
            for k in range(0, PATCH[1], LANES):
                store(picked, to + k, load(sums, at + k))
        else:
            for k in range(count):
                picked[to + k] = sums[at + starts[first + to + k]]
    return picked[: ends[end] - first]


@njit(cache=True, nogil=True, error_model="numpy")
def _index(
    mean_a: FloatArray,
    mean_b: FloatArray,
    spread_a: FloatArray,
    spread_b: FloatArray,
    level_a: float,
    level_b: float,
    products: FloatArray,
    product: FloatArray,
    centre: FloatArray,
    c1: float,
    c2: float,
    total: FloatArray,
) -> None:
    """Add the index of each window to `total`; of a channel with itself it is exactly 1."""
    for k in range(total.size):
        both = product[k] * products[k] - centre[k] * (mean_a[k] * mean_b[k])
        x, y = mean_a[k] + level_a, mean_b[k] + level_b
        top = (2.0 * (x * y) + c1) * (both + c2)
        total[k] += top / (((x * x + y * y) + c1) * (spread_a[k] + spread_b[k]))


@njit(cache=True, nogil=True)
def busy(
    tiles: NDArray[np.floating], channels: NDArray[np.int64], y0: int, y1: int, x0: int, x1: int
) -> int:
    """Move the channels that hold anything but zeros in a box to the front; their number."""
    kept = 0
    for index in range(channels.size):
        c = channels[index]
        for i in range(y0, y1):
            row = tiles[c, i, x0:x1]
            largest = row[0] * 0
            for j in range(row.size):
                largest = max(largest, abs(row[j]))
            if largest > 0:
                channels[kept] = c
                kept += 1
                break
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def load_channels(
    tiles: NDArray[np.floating],
    channels: NDArray[np.int64],
    y0: int,
    x0: int,
    factor: FloatArray,
    level: FloatArray,
    corners: Corners,
    window: int,
    tree: Tree,
    c1: float,
    c2: float,
    room: Room,
    out: Channels,
) -> None:
    """Fill `out` with what the windows of a patch hold of some channels.

    Parameters
    ----------
    tiles : (channel, h, w) float32 or float64
    channels : (n,) which of them
    y0, x0 : first pixel of the patch; what lies beyond the tile is not in any window
    factor, level : (channel,) the scaled value is ``factor * tile + level``
    corners : Corners
    """
    pixels = out.pixels
    pitch = room.pitch
    height = min(pixels.shape[1] // pitch, tiles.shape[1] - y0)
    width = min(pitch, tiles.shape[2] - x0)
    ones = np.ones(pixels.shape[1])
    rows = corners.tops.size
    for k in range(channels.size):
        c = channels[k]
        values = pixels[k]
        values[:] = 0.0
        for i in range(height):
            source = tiles[c, y0 + i, x0 : x0 + width]
            target = values[i * pitch : i * pitch + width]
            for j in range(width):
                target[j] = np.float64(source[j]) * factor[c]
        out.level[k] = level[c]
        alone = 0.0
        for row in range(0, rows, ROWS):
            s, e = corners.ends[row], corners.ends[min(row + ROWS, rows)]
            mean, share = out.mean[k, s:e], corners.share[s:e]
            sums = window_sums(values, ones, corners, row, window, tree, room)
            for j in range(sums.size):
                mean[j] = sums[j] * share[j]
        for row in range(0, rows, ROWS):
            s, e = corners.ends[row], corners.ends[min(row + ROWS, rows)]
            mean, spread = out.mean[k, s:e], out.spread[k, s:e]
            product, centre = corners.product[s:e], corners.centre[s:e]
            sums = window_sums(values, values, corners, row, window, tree, room)
            for j in range(sums.size):
                twice = product[j] * sums[j] - centre[j] * (mean[j] * mean[j])
                spread[j] = (max(twice, 0.0) + c2) / 2
                x = mean[j] + level[c]
                alone += c1 * c2 / ((x * x + c1) * (spread[j] + c2 / 2)) - 1.0
        out.alone[k] = alone


@njit(cache=True, nogil=True)
def ssim_pairs(
    a: Channels,
    count_a: int,
    b: Channels,
    count_b: int,
    upper: bool,
    corners: Corners,
    window: int,
    tree: Tree,
    c1: float,
    c2: float,
    room: Room,
    out: FloatArray,
) -> None:
    """What the windows of each pair add to the sum of the index, beyond what each adds alone.

    Parameters
    ----------
    a, b : Channels, of which the first `count_a` and `count_b` are set
    upper : only pairs with b not before a
    out : (count_a, count_b) float64
    """
    rows = corners.tops.size
    windows = corners.ends[rows]
    for i in range(count_a):
        for j in range(i if upper else 0, count_b):
            room.total[:] = 0.0
            for row in range(0, rows, ROWS):
                s, e = corners.ends[row], corners.ends[min(row + ROWS, rows)]
                _index(
                    a.mean[i, s:e],
                    b.mean[j, s:e],
                    a.spread[i, s:e],
                    b.spread[j, s:e],
                    a.level[i],
                    b.level[j],
                    window_sums(a.pixels[i], b.pixels[j], corners, row, window, tree, room),
                    corners.product[s:e],
                    corners.centre[s:e],
                    c1,
                    c2,
                    room.total[: e - s],
                )
            s = 0.0
            for k in range(room.total.size):
                s += room.total[k]
            out[i, j] = (s - windows) - (a.alone[i] + b.alone[j])
