"""Structural similarity of two images around every pixel of one padded tile.

Arrays in, an array out; the caller has padded the tiles and chosen the offsets. No dask, files or
rasters.

The sums of a window are those of `moments`, about a dataset-wide offset in float64, so that a
pixel has the same bits under any tiling. The index is bounded from below by its constants, so what
is lost where the variance is small beside the square of the distance from the offset stays small.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bigcorr.kernels import moments
from bigcorr.kernels.moments import EQUAL, Room, Window
from bigcorr.kernels.rows import rows_of, target_rows


class Terms(NamedTuple):
    """The constants of the index.

    c1, c2 : of the comparison of means and of the comparison of variances.
    pixels : pixels of a window over the sum of its weights.
    sample : 1 where variances are divided by the number of pixels less one, else 0.
    """

    c1: float
    c2: float
    pixels: float
    sample: float


def ssim_tile(
    a: NDArray[Any],
    b: NDArray[Any],
    window: int,
    c1: float,
    c2: float,
    offset_a: float = 0.0,
    offset_b: float = 0.0,
    min_valid: float = 0.5,
    *,
    taps: NDArray[np.float64] = EQUAL,
    sample: bool = True,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Structural similarity of two padded tiles over the window around each pixel.

    Parameters
    ----------
    a, b : ndarray, shape (h + window - 1, w + window - 1)
        The tiles with ``window // 2`` more pixels on each side; what is not finite is missing.
    window : int
        Odd side of the window in pixels.
    c1, c2 : float
        The constants of the index, ``(k1 * data_range)**2`` and ``(k2 * data_range)**2``.
    offset_a, offset_b : float
        A value near the level of each whole raster, the same for all its tiles.
    min_valid : float
        Share of the window's weight that must be valid in both.
    taps : ndarray of float64, shape (window,), optional
        Weights along both axes, all > 0. By default all pixels count alike.
    sample : bool
        Divide variances by the number of pixels less one.
    out : ndarray of float32, shape (h, w), optional

    Returns
    -------
    ndarray of float32, shape (h, w)
        NaN where too few pixels are valid.

    Examples
    --------
    >>> a = np.random.default_rng(0).random((9, 9))
    >>> ssim_tile(a, a, window=7, c1=1e-4, c2=9e-4)
    array([[1., 1., 1.],
           [1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """
    shape = a.shape[0] - window + 1, a.shape[1] - window + 1
    if out is None:
        out = np.empty(shape, np.float32)
    a, b = moments.as_floats(a, b)
    masked = not (moments.all_finite(a) and moments.all_finite(b))
    plan = moments.plan_window(window, taps)
    _ssim(
        *rows_of(a),
        *rows_of(b),
        a.shape[0],
        float(offset_a),
        float(offset_b),
        plan,
        masked,
        moments.least_weight(plan, min_valid),
        Terms(float(c1), float(c2), window * window / plan.total, float(sample)),
        moments.make_room(plan, shape[1], 5 if masked else 4),
        *target_rows(out),
        shape[1],
    )
    return out


def work_bytes(tile: tuple[int, int], window: int, weighted: bool = False) -> int:
    """Bytes that `ssim_tile` holds at most beside its tiles as floats and its result."""
    return moments.room_bytes(tile[1], window, weighted, 5) + 32 * tile[1]


@njit(cache=True, nogil=True, error_model="numpy")
def _factors(
    weight: NDArray[np.float64],
    terms: Terms,
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> None:
    """By what sums, and centred sums of squares times the weight, are multiplied."""
    pixels, sample = terms.pixels, terms.sample
    for j in range(weight.size):
        w = weight[j]
        n = w * pixels
        mean[j] = 1.0 / w
        variance[j] = n / ((n - sample) * (w * w)) if n > sample else np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _compare(
    weight: NDArray[np.float64],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    sums: NDArray[np.float64],
    pitch: int,
    offset_a: float,
    offset_b: float,
    terms: Terms,
    out: NDArray[np.float32],
) -> None:
    """One row of the index from its sums. The two terms are 1, their limit, where both are 0."""
    n, c1, c2 = out.size, terms.c1, terms.c2
    sx, sy = sums[:n], sums[pitch : pitch + n]
    sxy, ss = sums[2 * pitch : 2 * pitch + n], sums[3 * pitch : 3 * pitch + n]
    for j in range(n):
        mx, my = offset_a + sx[j] * mean[j], offset_b + sy[j] * mean[j]
        # Twice the covariance and the sum of the variances: of an image with itself, the same bits.
        both = 2.0 * (weight[j] * sxy[j] - sx[j] * sy[j]) * variance[j]
        each = (weight[j] * ss[j] - (sx[j] * sx[j] + sy[j] * sy[j])) * variance[j]
        top1, bottom1 = 2.0 * (mx * my) + c1, (mx * mx + my * my) + c1
        top2, bottom2 = both + c2, max(each, 0.0) + c2
        top = (top1 if bottom1 != 0.0 else 1.0) * (top2 if bottom2 != 0.0 else 1.0)
        bottom = (bottom1 if bottom1 != 0.0 else 1.0) * (bottom2 if bottom2 != 0.0 else 1.0)
        out[j] = top / bottom


@njit(cache=True, nogil=True, error_model="numpy")
def _ssim(
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
    terms: Terms,
    room: Room,
    out: NDArray[np.float32],
    pitch_out: int,
    width: int,
) -> None:
    """The whole tile, one panel of columns after the other, each streamed row by row."""
    reach, pitch = window.size - 1, room.pitch
    first = moments.first_slots(window.tree.depth)
    total = room.total
    whole = np.full(room.panel, window.total)
    mean, variance = np.empty(room.panel), np.empty(room.panel)
    _factors(whole, terms, mean, variance)
    for x0 in range(0, width, room.panel):
        x1 = min(x0 + room.panel, width)
        n = x1 - x0
        for row in range(rows):
            line_a = a[row * pitch_a + x0 : row * pitch_a + x1 + reach]
            line_b = b[row * pitch_b + x0 : row * pitch_b + x1 + reach]
            moments.load_row(line_a, line_b, offset_a, offset_b, True, masked, row, window, room)
            if not moments.take_row(n + reach, True, masked, row, window, first, room):
                continue
            weight = total[4 * pitch : 4 * pitch + n] if masked else whole[:n]
            if masked:
                _factors(weight, terms, mean[:n], variance[:n])
            at = (row - reach) * pitch_out
            line = out[at + x0 : at + x1]
            _compare(weight, mean[:n], variance[:n], total, pitch, offset_a, offset_b, terms, line)
            if masked:
                for j in range(n):
                    if weight[j] < least:
                        line[j] = np.nan
