"""Normalised cross-correlation at zero shift, around every pixel of one padded tile.

Arrays in, an array out; the caller has padded the tiles and chosen the offsets. No dask, files or
rasters.

The five moments of a window (two sums, two sums of squares, the sum of products) are taken about a
dataset-wide offset in float64 and summed in an order that is fixed on the raster, so that a pixel
has the same bits under any tiling. Centring them can cancel digits. Integers of up to 16 bits lose
none: their sums are exact and so is the centring. Elsewhere a window whose centred sum of squares
is under `CONDITION_FLOOR` of the one about the offset is worked out again by two passes over its
own pixels.
A window is constant when its valid pixels are all equal, to the last bit: there the result is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels import moments
from bigcorr.kernels.formulas import AGAIN, NCC
from bigcorr.kernels.jit import njit
from bigcorr.kernels.moments import EQUAL
from bigcorr.kernels.rows import rows_of
from bigcorr.kernels.window_sums import sliding_extreme

CONDITION_FLOOR = 1e-8
"""Centred over raw sum of squares below which float moments are worked out again by two passes.

Sums in float64 are off by a few 1e-16 of the raw sum, so what stands has a few 1e-8 at worst.
"""

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
    origin: tuple[int, int] = (0, 0),
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
    origin : (int, int)
        Where the padded tiles begin on the raster: sums are taken in the order of its grid.
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
        even = float(offset_a).is_integer() and float(offset_b).is_integer()
        exact = even and exact_moments(window, a.dtype, b.dtype)
    pair = moments.as_pair(a, b, offset_a, offset_b)
    floor = 0.0 if exact and not taps.size else CONDITION_FLOOR  # weights are not whole numbers
    masked = moments.map_windows(pair, window, taps, NCC, (floor,), min_valid, origin, out)
    if floor and _marked(*rows_of(out), *shape):
        a, b = a.astype(pair.a.dtype, copy=False), b.astype(pair.a.dtype, copy=False)
        taps = taps if taps.size else np.ones(window)
        _work_out_again(a, b, window, taps, masked, out)
    return out


def work_bytes(tile: tuple[int, int], window: int, weighted: bool = False) -> int:
    """Bytes that `ncc_tile` holds at most beside its tiles as floats, weights and its result."""
    sums = moments.room_bytes(tile[1], window, weighted)
    # Constant windows are looked for band by band: extremes of a tile, with two steps at a time.
    band = max(window, _BAND_BYTES // (4 * (tile[1] + window))) + window
    return sums + 6 * 8 * min(band, tile[0] + window) * (tile[1] + window)


@njit(cache=True, nogil=True)
def _marked(out: NDArray[np.float32], pitch: int, height: int, width: int) -> bool:
    """Whether any window is to be worked out again."""
    for y in range(height):
        line, count = out[y * pitch : y * pitch + width], 0
        for j in range(line.size):
            count += line[j] == AGAIN
        if count:
            return True
    return False


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
        columns = np.flatnonzero((out[y0:y1] == AGAIN).any(axis=0))
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
            part[constant & (part == AGAIN)] = 0.0
        _two_passes(a[box], b[box], taps, part)


@njit(cache=True, nogil=True, error_model="numpy")
def _two_passes(
    a: NDArray[Any], b: NDArray[Any], taps: NDArray[np.float64], out: NDArray[np.float32]
) -> None:
    """Correlation of the marked windows about the window's own means."""
    window = taps.size
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            if out[y, x] != AGAIN:
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
