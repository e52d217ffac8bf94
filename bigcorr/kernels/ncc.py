"""Normalised cross-correlation at zero shift, around every pixel of one padded tile.

Arrays in, an array out; the caller has padded the tiles and chosen the offsets. No dask, files or
rasters.

The five moments of a window (two sums, two sums of squares, the sum of products) are taken about a
dataset-wide offset in float64 and summed by a fixed tree, so that a pixel has the same bits under
any tiling. Centring them can cancel digits. Integers of up to 16 bits lose none: their sums are
exact and so is the centring. Elsewhere a window whose centred sum of squares is under
`CONDITION_FLOOR` of the one about the offset is worked out again by two passes over its own pixels.
A window is constant when its valid pixels are all equal, to the last bit: there the result is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bigcorr.kernels import moments
from bigcorr.kernels.fused import fma
from bigcorr.kernels.moments import EQUAL, Room, Window
from bigcorr.kernels.rows import rows_of, target_rows
from bigcorr.kernels.window_sums import sliding_extreme

CONDITION_FLOOR = 1e-8
"""Centred over raw sum of squares below which float moments are worked out again by two passes.

A tree of float64 sums is off by a few 1e-16 of the raw sum, so what stands has a few 1e-8 at worst.
"""

_AGAIN = 2.0  # marks, in a map of values from -1 to 1, a window that has to be worked out again
_BAND_BYTES = 8 * 2**20  # what a band of rows may take while constant windows are looked for


def exact_moments(window: int, *dtypes: Any) -> bool:
    """Whether the moments of windows of such pixels are exact, about an offset of 0 as well.

    Sums of squares of 16-bit integers are whole numbers of at most 53 bits up to this window.
    """
    small = (np.dtype(dtype).kind in "bui" and np.dtype(dtype).itemsize <= 2 for dtype in dtypes)
    return window <= 1023 and all(small)


def ncc_tile(
    a: NDArray[Any],
    b: NDArray[Any],
    window: int,
    offset_a: float = 0.0,
    offset_b: float = 0.0,
    min_valid: float = 0.5,
    *,
    taps: NDArray[np.float64] = EQUAL,
    exact: bool | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Correlation of two padded tiles over the window around each pixel.

    Parameters
    ----------
    a, b : ndarray, shape (h + window - 1, w + window - 1)
        The tiles with ``window // 2`` more pixels on each side; what is not finite is missing.
    window : int
        Odd side of the window in pixels.
    offset_a, offset_b : float
        A value near the level of each whole raster, the same for all its tiles.
    min_valid : float
        Share of the window's weight that must be valid in both.
    taps : ndarray of float64, shape (window,), optional
        Weights along both axes, all > 0. By default all pixels count alike.
    exact : bool, optional
        Both tiles hold what `exact_moments` asks for (or NaN), whatever their dtype now is, and
        the offsets are whole numbers of 16 bits. By default the dtypes are asked.
    out : ndarray of float32, shape (h, w), optional

    Returns
    -------
    ndarray of float32, shape (h, w)
        In [-1, 1]; 0 where either window is constant, NaN where too few pixels are valid.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=(9, 9))
    >>> ncc_tile(a, 3 * a + 1, window=7).round(6)
    array([[1., 1., 1.],
           [1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """
    shape = a.shape[0] - window + 1, a.shape[1] - window + 1
    if out is None:
        out = np.empty(shape, np.float32)
    if exact is None:
        whole = float(offset_a).is_integer() and float(offset_b).is_integer()
        exact = whole and exact_moments(window, a.dtype, b.dtype)
    exact = exact and not taps.size  # weights are not whole numbers
    a, b = moments.as_floats(a, b)
    masked = not (moments.all_finite(a) and moments.all_finite(b))
    plan = moments.plan_window(window, taps)
    again = _ncc(
        *rows_of(a),
        *rows_of(b),
        a.shape[0],
        float(offset_a),
        float(offset_b),
        plan,
        masked,
        moments.least_weight(plan, min_valid),
        0.0 if exact else CONDITION_FLOOR,
        moments.make_room(plan, shape[1], 6 if masked else 5),
        *target_rows(out),
        shape[1],
    )
    if again:
        _work_out_again(a, b, window, taps if taps.size else np.ones(window), masked, out)
    return out


def work_bytes(tile: tuple[int, int], window: int, weighted: bool = False) -> int:
    """Bytes that `ncc_tile` holds at most beside its tiles as floats and its result."""
    rings = moments.room_bytes(tile[1], window, weighted, 6)
    # Constant windows are looked for band by band: extremes of a tile, with two steps at a time.
    band = max(window, _BAND_BYTES // (4 * (tile[1] + window))) + window
    return rings + 6 * 8 * min(band, tile[0] + window) * (tile[1] + window)


@njit(cache=True, nogil=True, error_model="numpy")
def _centred(n: float, sum_ab: float, sum_a: float, sum_b: float) -> float:
    """``n * sum_ab - sum_a * sum_b``, rounded once where the two terms are close."""
    p = n * sum_ab
    q = sum_a * sum_b
    return (p - q) + (fma(n, sum_ab, -p) - fma(sum_a, sum_b, -q))


@njit(cache=True, nogil=True, error_model="numpy")
def _correlate(
    weight: NDArray[np.float64],
    sx: NDArray[np.float64],
    sy: NDArray[np.float64],
    sxy: NDArray[np.float64],
    sxx: NDArray[np.float64],
    syy: NDArray[np.float64],
    floor: float,
    out: NDArray[np.float32],
) -> int:
    """One row of correlations from its moments; how many windows have to be worked out again."""
    again = 0
    for j in range(out.size):
        n = weight[j]
        xx = _centred(n, sxx[j], sx[j], sx[j])
        yy = _centred(n, syy[j], sy[j], sy[j])
        xy = _centred(n, sxy[j], sx[j], sy[j])
        r = xy / np.sqrt(xx * yy)
        r = min(max(r, -1.0), 1.0)
        sound = (xx > floor * (n * sxx[j])) & (yy > floor * (n * syy[j]))
        flat = (sxx[j] == 0.0) | (syy[j] == 0.0) | (floor == 0.0)
        out[j] = r if sound else (0.0 if flat else _AGAIN)
    for j in range(out.size):
        again += out[j] == _AGAIN
    return again


@njit(cache=True, nogil=True, error_model="numpy")
def _ncc(
    a: NDArray[Any],
    pitch_a: int,
    b: NDArray[Any],
    pitch_b: int,
    rows: int,
    offset_a: float,
    offset_b: float,
    window: Window,
    masked: bool,
    least: float,
    floor: float,
    room: Room,
    out: NDArray[np.float32],
    pitch_out: int,
    width: int,
) -> int:
    """The whole tile, one panel of columns after the other, each streamed row by row."""
    reach, pitch = window.size - 1, room.pitch
    first = moments.first_slots(window.tree.depth)
    total = room.total
    whole = np.full(room.panel, window.total)
    again = 0
    for x0 in range(0, width, room.panel):
        x1 = min(x0 + room.panel, width)
        n = x1 - x0
        for row in range(rows):
            line_a = a[row * pitch_a + x0 : row * pitch_a + x1 + reach]
            line_b = b[row * pitch_b + x0 : row * pitch_b + x1 + reach]
            moments.load_row(line_a, line_b, offset_a, offset_b, False, masked, row, window, room)
            if not moments.take_row(n + reach, False, masked, row, window, first, room):
                continue
            weight = total[5 * pitch : 5 * pitch + n] if masked else whole[:n]
            at = (row - reach) * pitch_out
            line = out[at + x0 : at + x1]
            again += _correlate(
                weight,
                total[:n],
                total[pitch : pitch + n],
                total[2 * pitch : 2 * pitch + n],
                total[3 * pitch : 3 * pitch + n],
                total[4 * pitch : 4 * pitch + n],
                floor,
                line,
            )
            if masked:
                for j in range(n):
                    if weight[j] < least:
                        again -= line[j] == _AGAIN
                        line[j] = np.nan
    return again


def _work_out_again(
    a: NDArray[Any],
    b: NDArray[Any],
    window: int,
    taps: NDArray[np.float64],
    masked: bool,
    out: NDArray[np.float32],
) -> None:
    """Settle the marked windows: 0 where one is constant, else two passes over its pixels."""
    band = max(window, _BAND_BYTES // (a.itemsize * a.shape[1]))
    for y0 in range(0, out.shape[0], band):
        y1 = min(y0 + band, out.shape[0])
        columns = np.flatnonzero((out[y0:y1] == _AGAIN).any(axis=0))
        if columns.size == 0:
            continue
        x0, x1 = int(columns[0]), int(columns[-1]) + 1
        box = slice(y0, y1 + window - 1), slice(x0, x1 + window - 1)
        part = out[y0:y1, x0:x1]
        valid = np.isfinite(a[box]) & np.isfinite(b[box]) if masked else None
        for tile in (a, b):
            low = high = tile[box]
            if valid is not None:
                low, high = np.where(valid, low, np.inf), np.where(valid, high, -np.inf)
            constant = sliding_extreme(low, window, np.minimum) == sliding_extreme(
                high, window, np.maximum
            )
            part[constant & (part == _AGAIN)] = 0.0
        _two_passes(a[box], b[box], taps, part)


@njit(cache=True, nogil=True, error_model="numpy")
def _two_passes(
    a: NDArray[Any], b: NDArray[Any], taps: NDArray[np.float64], out: NDArray[np.float32]
) -> None:
    """Correlation of the marked windows about the window's own means."""
    window = taps.size
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            if out[y, x] != _AGAIN:
                continue
            weight = base_a = base_b = sum_a = sum_b = 0.0
            for i in range(window):
                for j in range(window):
                    u, v = np.float64(a[y + i, x + j]), np.float64(b[y + i, x + j])
                    if np.isfinite(u) and np.isfinite(v):
                        if weight == 0.0:
                            base_a, base_b = u, v
                        t = taps[i] * taps[j]
                        weight += t
                        sum_a += t * (u - base_a)
                        sum_b += t * (v - base_b)
            mean_a, mean_b = sum_a / weight, sum_b / weight
            aa = bb = ab = rest_a = rest_b = 0.0
            for i in range(window):
                for j in range(window):
                    u, v = np.float64(a[y + i, x + j]), np.float64(b[y + i, x + j])
                    if np.isfinite(u) and np.isfinite(v):
                        t = taps[i] * taps[j]
                        p = (u - base_a) - mean_a
                        q = (v - base_b) - mean_b
                        rest_a += t * p
                        rest_b += t * q
                        aa += t * p * p
                        bb += t * q * q
                        ab += t * p * q
            aa -= rest_a * rest_a / weight
            bb -= rest_b * rest_b / weight
            ab -= rest_a * rest_b / weight
            r = ab / (np.sqrt(aa) * np.sqrt(bb))
            out[y, x] = min(max(r, -1.0), 1.0)
