"""Structural similarity of two images around every pixel of one padded tile.

Arrays in, an array out; the caller has padded the tiles and chosen the offsets. No dask, files or
rasters.

The sums of a window are those of `moments`, about a dataset-wide offset in float64, so that a
pixel has the same bits under any tiling. The index is bounded from below by its constants, so what
is lost where the variance is small beside the square of the distance from the offset stays small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels import moments
from bigcorr.kernels.formulas import SSIM
from bigcorr.kernels.moments import EQUAL


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
    pixels = window * window / moments.whole_weight(window, taps)
    terms = (c1, c2, pixels, float(sample), pair.offset_a, pair.offset_b)
    moments.map_windows(pair, window, taps, SSIM, terms, min_valid, origin, out)
    return out


def work_bytes(tile: tuple[int, int], window: int, weighted: bool = False) -> int:
    """Bytes that `ssim_tile` holds at most beside its tiles as floats, weights and its result."""
    return moments.room_bytes(tile[1], window, weighted)
