"""Local binary patterns of one padded tile, to the last bit those of scikit-image on the whole.

Arrays in, an array out. No dask, files or rasters. Where the samples lie stands in `lbp_circle`,
what a pattern is worth in `lbp_codes`.

scikit-image adds a point's offset to the pixel's row and column *in the raster* and takes the
fraction of the sum, so that the fraction is rounded by how large the row is. Here the same sums
are formed from the tile's place in the raster: one fraction a row, one vector of them a tile.
A bilinear sample is two interpolations along x and one along y. Those along x depend on the
point's column offset and the image row alone: each is done once and used by every point and every
row that needs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.lbp_circle import METHODS, Circle, Method, circle
from bigcorr.kernels.lbp_codes import code_table, encode
from bigcorr.kernels.rows import raw_target
from bigcorr.kernels.scratch import kept
from bigcorr.tiles import Shape

_RING_BYTES = 256 * 1024  # rows that were interpolated along x should stay in the cache
_PANEL_WIDTHS = (128, 1024)


def lbp_tile(
    padded: NDArray[np.float64],
    points: int,
    radius: float,
    method: Method,
    origin: Shape = (0, 0),
    out: NDArray[Any] | None = None,
    dtype: Any = np.uint64,
) -> NDArray[Any]:
    """Local binary patterns of a padded tile.

    Parameters
    ----------
    padded : ndarray of float64, shape (h + 2 halo_y, w + 2 halo_x)
        The tile with ``circle(points, radius).halo`` more pixels on each side, C-contiguous; 0
        outside the raster. All finite.
    points, radius, method
        As for `bigcorr.local_binary_pattern`.
    origin : (int, int)
        Row and column in the raster of the tile's first pixel (behind the halo).
    out : ndarray, shape (h, w), optional
        Its rows are without gaps.
    dtype : dtype
        Of the result where `out` is not given: float64 for "var", else unsigned and large enough.

    Returns
    -------
    ndarray, shape (h, w)

    Examples
    --------
    >>> lbp_tile(np.pad(np.full((5, 5), 7.0), 1), 8, 1.0, "default", dtype=np.uint8)[0]
    array([193, 241, 241, 241, 112], dtype=uint8)
    """
    ring = circle(points, radius)
    halo = ring.halo
    height, width = padded.shape[0] - 2 * halo[0], padded.shape[1] - 2 * halo[1]
    if out is None:
        out = np.empty((height, width), np.float64 if method == "var" else dtype)
    slots, k, panel = _plan(ring, width)
    _lbp(
        padded,
        ring.dy,
        ring.columns,
        ring.column,
        halo,
        (float(origin[0]), float(origin[1])),
        METHODS.index(method),
        code_table(points, method),
        panel,
        kept(k * panel, "lbp fractions").reshape(k, panel),
        kept(slots * k * panel, "lbp ring").reshape(slots, k, panel),
        kept(panel, "lbp patterns").view(np.uint64),
        kept(2 * panel, "lbp moments").reshape(2, panel),
        *raw_target(out),
    )
    return out


def work_bytes(points: int, radius: float, width: int) -> int:
    """Bytes that `lbp_tile` holds at most beside its tile and its result."""
    slots, k, panel = _plan(circle(points, radius), width)
    return 8 * panel * (k * (slots + 1) + 3) + 2 ** min(points, 16) * 10


def _plan(ring: Circle, width: int) -> tuple[int, int, int]:
    """Rows of the ring, column offsets, and columns that are worked through at a time."""
    slots, k = 2 * ring.halo[0] + 1, ring.columns.size
    panel = _RING_BYTES // (8 * k * slots) // 16 * 16
    return slots, k, max(_PANEL_WIDTHS[0], min(panel, _PANEL_WIDTHS[1], -(-width // 16) * 16))


@njit(cache=True, nogil=True, error_model="numpy")
def _fractions(first: float, offset: float, out: NDArray[np.float64]) -> None:
    """How far to the right of a pixel the samples at `offset` from ``first, first + 1 ...`` lie."""
    for j in range(out.size):
        x = (first + j) + offset
        out[j] = x - np.floor(x)


@njit(cache=True, nogil=True, error_model="numpy")
def _between_columns(
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    fraction: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    for j in range(out.size):
        out[j] = (1.0 - fraction[j]) * left[j] + fraction[j] * right[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _compare(
    top: NDArray[np.float64],
    bottom: NDArray[np.float64],
    fraction: float,
    centre: NDArray[np.float64],
    bit: np.uint64,
    patterns: NDArray[np.uint64],
) -> None:
    """Set a bit where the sample between two rows is not below the centre."""
    if fraction == 0.0:
        for j in range(patterns.size):
            patterns[j] |= bit if top[j] >= centre[j] else np.uint64(0)
        return
    rest = 1.0 - fraction
    for j in range(patterns.size):
        sample = rest * top[j] + fraction * bottom[j]
        patterns[j] |= bit if sample >= centre[j] else np.uint64(0)


@njit(cache=True, nogil=True, error_model="numpy")
def _add(
    top: NDArray[np.float64],
    bottom: NDArray[np.float64],
    fraction: float,
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Add the sample between two rows, and its square."""
    rest = 1.0 - fraction
    for j in range(total.size):
        sample = rest * top[j] + fraction * bottom[j]
        total[j] += sample
        squares[j] += sample * sample


@njit(cache=True, nogil=True, error_model="numpy")
def _variance(
    points: int,
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    for j in range(out.size):
        variance = (squares[j] - (total[j] * total[j]) / points) / points
        out[j] = variance if variance != 0.0 else np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _write(codes: NDArray[np.uint64], out: NDArray[np.uint8], item: int, start: int) -> None:
    """Codes to the pixels from number `start` on, of unsigned integers of `item` bytes."""
    stop = start + codes.size
    if item == 1:
        _store(codes, out[start:stop])
    elif item == 2:
        _store(codes, out.view(np.uint16)[start:stop])
    elif item == 4:
        _store(codes, out.view(np.uint32)[start:stop])
    else:
        _store(codes, out.view(np.uint64)[start:stop])


@njit(cache=True, nogil=True, error_model="numpy")
def _store(codes: NDArray[np.uint64], out: NDArray[Any]) -> None:
    for j in range(out.size):
        out[j] = codes[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _lbp(
    image: NDArray[np.float64],
    dy: NDArray[np.float64],
    columns: NDArray[np.float64],
    column: NDArray[np.int64],
    halo: tuple[int, int],
    origin: tuple[float, float],
    method: int,
    table: NDArray[np.uint16],
    panel: int,
    fractions: NDArray[np.float64],
    ring: NDArray[np.float64],
    pattern_row: NDArray[np.uint64],
    moment_rows: NDArray[np.float64],
    out: NDArray[np.uint8],
    item: int,
    pitch: int,
) -> None:
    """The whole tile, one panel of columns after the other, each streamed row by row."""
    width = image.shape[1] - 2 * halo[1]
    points = dy.size
    slots = ring.shape[0]
    shift_y, shift_x = np.empty(points, np.int64), np.empty(columns.size, np.int64)
    for i in range(points):
        shift_y[i] = np.int64(np.floor(dy[i]))
    for k in range(columns.size):
        shift_x[k] = np.int64(np.floor(columns[k]))

    for x0 in range(0, width, panel):
        n = min(panel, width - x0)
        for k in range(columns.size):
            _fractions(origin[1] + x0, columns[k], fractions[k, :n])
        for row in range(image.shape[0]):
            for k in range(columns.size):
                j = x0 + halo[1] + shift_x[k]
                if columns[k] != shift_x[k]:
                    left, right = image[row, j : j + n], image[row, j + 1 : j + 1 + n]
                    _between_columns(left, right, fractions[k, :n], ring[row % slots, k, :n])
            y = row - 2 * halo[0]
            if y < 0:
                continue
            centre = image[y + halo[0], x0 + halo[1] : x0 + halo[1] + n]
            patterns, total, squares = pattern_row[:n], moment_rows[0, :n], moment_rows[1, :n]
            for j in range(n):
                patterns[j] = 0
                total[j] = squares[j] = 0.0
            for i in range(points):
                at = (origin[0] + y) + dy[i]
                fraction = at - np.floor(at)
                k = column[i]
                upper = y + halo[0] + shift_y[i]
                lower = upper + 1 if fraction != 0.0 else upper
                if columns[k] != shift_x[k]:
                    top, bottom = ring[upper % slots, k, :n], ring[lower % slots, k, :n]
                else:
                    j = x0 + halo[1] + shift_x[k]
                    top, bottom = image[upper, j : j + n], image[lower, j : j + n]
                if method == 4:
                    _add(top, bottom, fraction, total, squares)
                else:
                    _compare(top, bottom, fraction, centre, np.uint64(1) << np.uint64(i), patterns)
            to = y * pitch + x0
            if method == 4:
                _variance(points, total, squares, out.view(np.float64)[to : to + n])
            else:
                encode(patterns, method, points, table)
                _write(patterns, out, item, to)
