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
from bigcorr.kernels.moments import EQUAL, PANEL, Room
from bigcorr.kernels.rows import raw_rows, raw_target, rows_of
from bigcorr.kernels.vectors import LANES


class Terms(NamedTuple):
    """The constants of the index.

    c1, c2 : of the comparison of means and of the comparison of variances.
    pixels : pixels of a window over the sum of its weights.
    sample : 1 where variances are divided by the number of pixels less one, else 0.
    offset_a, offset_b : about which the sums are taken.
    """

    c1: float
    c2: float
    pixels: float
    sample: float
    offset_a: float
    offset_b: float


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
    origin: tuple[int, int] = (0, 0),
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
    origin : (int, int)
        Where the padded tiles begin on the raster: sums are taken in the order of its grid.
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
    pair = moments.as_pair(a, b, offset_a, offset_b)
    whole, weight = moments.weight_of(pair, window, taps)
    terms = Terms(
        float(c1),
        float(c2),
        window * window / whole,
        float(sample),
        pair.offset_a,
        pair.offset_b,
    )
    _ssim(
        *raw_rows(pair.a),
        *raw_rows(pair.b),
        pair.shape[0],
        origin[0] % window,
        origin[1] % window,
        *rows_of(np.full((1, 1), whole) if weight is None else weight),
        weight is not None,
        terms,
        moments.make_room(shape[1], window, taps),
        *raw_target(out),
        shape[1],
    )
    if weight is not None:
        out[weight < moments.least_weight(whole, taps, min_valid)] = np.nan
    return out


def work_bytes(tile: tuple[int, int], window: int, weighted: bool = False) -> int:
    """Bytes that `ssim_tile` holds at most beside its tiles as floats, weights and its result."""
    return moments.room_bytes(tile[1], window, weighted)


@njit(cache=True, nogil=True, error_model="numpy")
def _compare(
    weight: NDArray[np.float64],
    sx: NDArray[np.float64],
    sy: NDArray[np.float64],
    sxy: NDArray[np.float64],
    sxx: NDArray[np.float64],
    syy: NDArray[np.float64],
    terms: Terms,
    out: NDArray[np.float64],
) -> None:
    """The index from the sums. Its two terms are 1, their limit, where both sides are 0."""
    c1, c2, offset_a, offset_b = terms.c1, terms.c2, terms.offset_a, terms.offset_b
    pixels, sample = terms.pixels, terms.sample
    for j in range(out.size):
        w = weight[j]
        n = w * pixels
        mean = 1.0 / w
        variance = n / ((n - sample) * (w * w)) if n > sample else np.nan
        mx, my = offset_a + sx[j] * mean, offset_b + sy[j] * mean
        # Twice the covariance and the sum of the variances: of an image with itself, the same bits.
        both = 2.0 * (w * sxy[j] - sx[j] * sy[j]) * variance
        each = (w * (sxx[j] + syy[j]) - (sx[j] * sx[j] + sy[j] * sy[j])) * variance
        top1, bottom1 = 2.0 * (mx * my) + c1, (mx * mx + my * my) + c1
        top2, bottom2 = both + c2, max(each, 0.0) + c2
        top = (top1 if bottom1 != 0.0 else 1.0) * (top2 if bottom2 != 0.0 else 1.0)
        bottom = (bottom1 if bottom1 != 0.0 else 1.0) * (bottom2 if bottom2 != 0.0 else 1.0)
        out[j] = top / bottom


@njit(cache=True, nogil=True, error_model="numpy")
def _ssim(
    a: NDArray[np.uint8],
    item_a: int,
    pitch_a: int,
    b: NDArray[np.uint8],
    item_b: int,
    pitch_b: int,
    rows: int,
    phase_y: int,
    phase_x: int,
    weight: NDArray[np.float64],
    pitch_w: int,
    weighted: bool,
    terms: Terms,
    room: Room,
    out: NDArray[np.uint8],
    item_out: int,
    pitch_out: int,
    width: int,
) -> None:
    """The whole tile, one panel of columns after the other, each streamed eight rows at a time."""
    window, step = room.window, room.step
    reach = window - 1
    if not weighted:
        for j in range(room.weight.size):
            room.weight[j] = weight[0]
    for x0 in range(0, width, PANEL):
        n = min(PANEL, width - x0)
        phase = (phase_x + x0) % window
        columns, size, total = n + reach, n * LANES, room.total
        for y in range(-LANES, rows - reach, LANES):
            # First all rows that end no window yet, then eight at a time.
            first, last = y + reach if y >= 0 else 0, min(y + reach + LANES, rows)
            moments.load_rows(
                a, item_a, pitch_a, x0, terms.offset_a, columns, first, last, room, room.x
            )
            moments.load_rows(
                b, item_b, pitch_b, x0, terms.offset_b, columns, first, last, room, room.y
            )
            moments.take_rows(first, last, columns, phase_y, phase, room)
            if y < 0:
                continue
            if weighted:
                moments.take_weights(weight, pitch_w, y * pitch_w + x0, n, last - first, room)
            _compare(
                room.weight[:size],
                total[:size],
                total[step : step + size],
                total[2 * step : 2 * step + size],
                total[3 * step : 3 * step + size],
                total[4 * step : 4 * step + size],
                terms,
                room.values[:size],
            )
            to = y * pitch_out + x0
            moments.write_rows(out, item_out, pitch_out, to, n, last - first, room)
