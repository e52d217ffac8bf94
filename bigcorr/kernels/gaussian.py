"""Gaussian blur of one padded tile: taps, the separable blur, and the blur with missing pixels.

Arrays in, arrays out; the caller has already padded the tile. No dask, files or rasters.

Each output pixel is a chain of fused multiply-adds over its support, first along x, then along y,
always in the order of the global grid. The chain does not depend on where the tile begins, so the
same pixel has the same bits under any tiling. A zero adds nothing to such a chain, so leaving zero
pixels and empty rows out is exact as well, and sparse counts cost what their non-zero pixels cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bigcorr.kernels.fused import fma

# The row sums of one panel of columns should stay in the second-level cache, and one row of it in
# the first.
_RING_BYTES = 672 * 1024
_PANEL_WIDTH = 1024

_NATIVE = frozenset(np.dtype(name) for name in ("uint8", "uint16", "float32", "float64"))


def gaussian_taps(sigma: float, truncate: float = 4.0) -> NDArray[np.float64]:
    """Weights of a one-dimensional Gaussian, as in ``scipy.ndimage.gaussian_filter``.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels, > 0.
    truncate : float
        The radius is ``int(truncate * sigma + 0.5)`` pixels.

    Returns
    -------
    ndarray of float64, shape (2 * radius + 1,)
        Symmetric to the last bit; sums to 1.
    """
    radius = int(truncate * sigma + 0.5)
    offset = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-0.5 / (sigma * sigma) * offset**2)
    return weights / weights.sum()


def blur_tile(
    padded: NDArray[Any],
    taps_y: NDArray[np.float64],
    taps_x: NDArray[np.float64],
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Separable convolution of a padded tile.

    Parameters
    ----------
    padded : ndarray, shape (h + 2 ry, w + 2 rx)
        uint8, uint16, float32 or float64; any other real dtype is converted to float64.
    taps_y, taps_x : ndarray of float64, shape (2 ry + 1,) and (2 rx + 1,)
        Weights along each axis (see `gaussian_taps`).
    out : ndarray of float32 or float64, shape (h, w), optional
        Written and returned; a new float64 array by default.

    Returns
    -------
    ndarray, shape (h, w)

    Examples
    --------
    >>> taps = gaussian_taps(1.0)
    >>> blur_tile(np.ones((10, 12)), taps, taps).round(6)
    array([[1., 1., 1., 1.],
           [1., 1., 1., 1.]])
    """
    radius_y, radius_x = taps_y.size // 2, taps_x.size // 2
    shape = padded.shape[0] - 2 * radius_y, padded.shape[1] - 2 * radius_x
    if out is None:
        out = np.empty(shape)
    if padded.dtype not in _NATIVE:
        padded = padded.astype(np.float64)
    panels = -(-shape[1] // _panel_width(taps_y.size))
    _blur(np.ascontiguousarray(padded), taps_y, taps_x, -(-shape[1] // max(panels, 1)), out)
    return out


def blur_tile_masked(
    padded: NDArray[Any],
    valid: NDArray[np.bool_],
    taps_y: NDArray[np.float64],
    taps_x: NDArray[np.float64],
    out: NDArray[Any] | None = None,
    *,
    fill: bool = False,
) -> NDArray[Any]:
    """Normalised convolution: missing pixels have no weight, the others share it.

    ``sum(x * v * t) / sum(v * t)`` with v = 1 where `valid`. Pixels that are not valid become NaN;
    with `fill` they get the weighted mean of the valid pixels in reach, and stay NaN where there
    are none. A pixel with nothing missing in reach has the bits that `blur_tile` gives.

    Parameters
    ----------
    padded, taps_y, taps_x, out
        As for `blur_tile`.
    valid : ndarray of bool, shape (h + 2 ry, w + 2 rx)
        False where a pixel is missing.
    fill : bool
        Give missing pixels a value too.

    Returns
    -------
    ndarray, shape (h, w)
    """
    known = np.where(valid, padded, padded.dtype.type(0))
    total = blur_tile(known, taps_y, taps_x)
    normalise(total, blur_tile(valid.view(np.uint8), taps_y, taps_x), taps_y, taps_x)
    if out is None:
        out = np.empty(total.shape)
    if not fill:
        h, w = total.shape
        ry, rx = taps_y.size // 2, taps_x.size // 2
        total[~valid[ry : ry + h, rx : rx + w]] = np.nan
    out[...] = total
    return out


def work_bytes(radius: tuple[int, int]) -> int:
    """Bytes that `blur_tile` holds at most beside its tile and its result."""
    taps = 2 * radius[0] + 1
    return 8 * (taps + 2) * _panel_width(taps) + 24 * taps + 16 * radius[1]


def _panel_width(taps: int) -> int:
    return max(64, min(_PANEL_WIDTH, _RING_BYTES // (8 * taps)))


def normalise(
    total: NDArray[np.float64],
    weight: NDArray[np.float64],
    taps_y: NDArray[np.float64],
    taps_x: NDArray[np.float64],
) -> None:
    """Divide blurred values by their blurred validity in place; NaN where nothing was in reach.

    A pixel with nothing missing in reach keeps its bits, so that a tile which holds no missing
    pixel and a larger one which holds some far away agree to the last bit.
    """
    # The weight of a whole support, made by the same chain and so to the same last bit.
    one_x = blur_tile(np.ones((1, taps_x.size)), np.ones(1), taps_x)
    whole = blur_tile(np.repeat(one_x, taps_y.size, axis=0), taps_y, np.ones(1))[0, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        np.divide(total, weight, out=total, where=weight != whole)
    total[weight == 0] = np.nan


@njit(cache=True, nogil=True)
def _accumulate(
    out: NDArray[np.float64],
    x0: NDArray[np.float64],
    x1: NDArray[np.float64],
    x2: NDArray[np.float64],
    x3: NDArray[np.float64],
    x4: NDArray[np.float64],
    x5: NDArray[np.float64],
    x6: NDArray[np.float64],
    x7: NDArray[np.float64],
    t: NDArray[np.float64],
) -> None:
    """Eight links of the chain of every element of `out`, with one load and store of it."""
    t0, t1, t2, t3 = t[0], t[1], t[2], t[3]
    t4, t5, t6, t7 = t[4], t[5], t[6], t[7]
    for j in range(out.size):
        s = fma(x0[j], t0, out[j])
        s = fma(x1[j], t1, s)
        s = fma(x2[j], t2, s)
        s = fma(x3[j], t3, s)
        s = fma(x4[j], t4, s)
        s = fma(x5[j], t5, s)
        s = fma(x6[j], t6, s)
        out[j] = fma(x7[j], t7, s)


@njit(cache=True, nogil=True)
def _accumulate_one(out: NDArray[np.float64], x: NDArray[np.float64], t: float) -> None:
    for j in range(out.size):
        out[j] = fma(x[j], t, out[j])


@njit(cache=True, nogil=True)
def _blur_row(
    row: NDArray[np.float64], taps: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """``out[j] = sum over k of row[j + k] * taps[k]``, k rising: the dense form."""
    n = out.size
    out[:] = 0.0
    k = 0
    while k + 8 <= taps.size:
        _accumulate(
            out,
            row[k : k + n],
            row[k + 1 : k + 1 + n],
            row[k + 2 : k + 2 + n],
            row[k + 3 : k + 3 + n],
            row[k + 4 : k + 4 + n],
            row[k + 5 : k + 5 + n],
            row[k + 6 : k + 6 + n],
            row[k + 7 : k + 7 + n],
            taps[k : k + 8],
        )
        k += 8
    for i in range(k, taps.size):
        _accumulate_one(out, row[i : i + n], taps[i])


@njit(cache=True, nogil=True)
def _scatter_row(
    row: NDArray[np.float64],
    reversed_taps: NDArray[np.float64],
    first: int,
    last: int,
    out: NDArray[np.float64],
) -> None:
    """The same chain with the zero pixels left out: each other pixel adds itself where it reaches.

    Pixels come in rising x, so every output meets its terms in the order of the dense form.
    """
    out[:] = 0.0
    reach = reversed_taps.size - 1
    for x in range(first, last):
        value = row[x]
        if value != 0.0:
            lo = max(0, x - reach)
            hi = min(out.size, x + 1)
            shift = reach - x
            _accumulate_one(out[lo:hi], reversed_taps[lo + shift : hi + shift], value)


@njit(cache=True, nogil=True)
def _load_row(src: NDArray[Any], dst: NDArray[np.float64]) -> tuple[int, int, int]:
    """Convert a row; the number of its non-zero pixels and the span they lie in."""
    count = 0
    for j in range(src.size):
        count += src[j] != 0
    if count == 0:
        return 0, 0, 0
    for j in range(src.size):
        dst[j] = src[j]
    first = 0
    while dst[first] == 0.0:
        first += 1
    last = src.size
    while dst[last - 1] == 0.0:
        last -= 1
    return count, first, last


@njit(cache=True, nogil=True)
def _blur_column(
    ring: NDArray[np.float64],
    ring_row: NDArray[np.int64],
    span: NDArray[np.int64],
    head: int,
    tail: int,
    taps: NDArray[np.float64],
    y: int,
    group: NDArray[np.float64],
    out: NDArray[np.float64],
) -> tuple[int, int]:
    """Sum the rows ``head .. tail - 1`` of the ring into output row `y`; the span it occupies."""
    size = ring.shape[0]
    lo, hi = out.size, 0
    for m in range(head, tail):
        lo = min(lo, span[m % size, 0])
        hi = max(hi, span[m % size, 1])
    if lo >= hi:
        return 0, 0
    out[lo:hi] = 0.0
    m = head
    while m + 8 <= tail:
        for i in range(8):
            group[i] = taps[ring_row[(m + i) % size] - y]
        _accumulate(
            out[lo:hi],
            ring[m % size, lo:hi],
            ring[(m + 1) % size, lo:hi],
            ring[(m + 2) % size, lo:hi],
            ring[(m + 3) % size, lo:hi],
            ring[(m + 4) % size, lo:hi],
            ring[(m + 5) % size, lo:hi],
            ring[(m + 6) % size, lo:hi],
            ring[(m + 7) % size, lo:hi],
            group,
        )
        m += 8
    for i in range(m, tail):
        slot = i % size
        begin, end = span[slot, 0], span[slot, 1]
        _accumulate_one(out[begin:end], ring[slot, begin:end], taps[ring_row[slot] - y])
    return lo, hi


@njit(cache=True, nogil=True)
def _blur(
    padded: NDArray[Any],
    taps_y: NDArray[np.float64],
    taps_x: NDArray[np.float64],
    panel: int,
    out: NDArray[Any],
) -> None:
    """Both passes, one panel of columns after the other.

    The row sums of the non-empty rows in reach go round in a ring of ``taps_y.size`` rows: `head`
    and `tail` count the rows that ever left and entered it.
    """
    width = out.shape[1]
    reach = taps_x.size - 1
    reversed_taps = taps_x[::-1].copy()
    ring = np.empty((taps_y.size, panel))
    ring_row = np.empty(taps_y.size, np.int64)
    span = np.empty((taps_y.size, 2), np.int64)
    source = np.empty(panel + reach)
    total = np.empty(panel)
    group = np.empty(8)

    for x0 in range(0, width, panel):
        x1 = min(x0 + panel, width)
        n = x1 - x0
        head = tail = 0
        for row in range(padded.shape[0]):
            y = row - (taps_y.size - 1)
            if tail > head and ring_row[head % taps_y.size] < y:
                head += 1
            count, first, last = _load_row(padded[row, x0 : x1 + reach], source)
            if count > 0:
                slot = tail % taps_y.size
                if 4 * count < n:
                    _scatter_row(source, reversed_taps, first, last, ring[slot, :n])
                else:
                    _blur_row(source[: n + reach], taps_x, ring[slot, :n])
                ring_row[slot] = row
                span[slot, 0] = max(0, first - reach)
                span[slot, 1] = min(n, last)
                tail += 1
            if y < 0:
                continue
            lo, hi = _blur_column(ring, ring_row, span, head, tail, taps_y, y, group, total[:n])
            out[y, x0 : x0 + lo] = 0.0
            out[y, x0 + lo : x0 + hi] = total[lo:hi]
            out[y, x0 + hi : x1] = 0.0
