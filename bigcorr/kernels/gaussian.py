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
from bigcorr.kernels.rows import rows_of, target_rows
from bigcorr.kernels.scratch import kept

_PITCH = 520
"""Elements from one row of a panel to the next: whole cache lines, and no power of two, which
would put all rows in the same places of the cache. A constant, so that loops need few checks."""
_PANEL = 512
"""Columns of a panel at most: its sums under way stay in the second-level cache."""
_ROWS = 8
"""Rows that are pushed into the sums at once."""
_GROUP = 4
"""Sums that take them at once: what is loaded serves 32 steps."""
_STRETCH = 128
"""Pixels that are looked at together for whether any is not zero."""
_MARGIN = 16
"""Zeros around the taps along y: a block of rows reaches a little beyond the taps' support."""

_NATIVE = frozenset(np.dtype(name) for name in ("uint8", "float32", "float64"))
"""Dtypes that loops are compiled for; others take the smallest float that holds their values."""


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
    return gaussian_weights(sigma, int(truncate * sigma + 0.5))


def gaussian_weights(sigma: float, radius: int) -> NDArray[np.float64]:
    """Weights of a Gaussian of `sigma` over ``2 * radius + 1`` pixels, which sum to 1."""
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
        Any real dtype.
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
        small = padded.dtype.itemsize <= 2
        padded = padded.astype(np.float32 if small else np.float64)
    pixels, pitch = rows_of(padded)
    panels = -(-shape[1] // _PANEL)
    _blur(
        pixels,
        pitch,
        _occupied_spans(pixels, pitch, padded.shape),
        _with_margin(taps_y),
        radius_y,
        taps_x,
        np.ascontiguousarray(taps_x[::-1]),
        -(-shape[1] // max(panels, 1)),
        kept(_sums_size(radius_y), "gaussian sums"),
        kept(_ROWS * _PITCH, "gaussian rows"),
        *target_rows(out),
        shape[1],
    )
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


def _with_margin(taps: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.zeros(taps.size + 2 * _MARGIN)
    out[_MARGIN : _MARGIN + taps.size] = taps
    return out


def work_bytes(radius: tuple[int, int]) -> int:
    """Bytes that `blur_tile` holds at most beside its tile and its result."""
    return 8 * (_sums_size(radius[0]) + _ROWS * _PITCH + 4 * radius[0] + 8 * radius[1] + 1024)


def _sums_size(radius: int) -> int:
    """Elements of the ring of sums: all that a block of rows reaches, in whole groups."""
    groups = (2 * radius + _ROWS + _GROUP - 1) // _GROUP + 2
    return groups * _GROUP * _PITCH


@njit(cache=True, nogil=True)
def _occupied_spans(pixels: NDArray[Any], pitch: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """For each row, columns outside which it is zero; an empty span where all of it is.

    Looked up by stretches, so a span may be some pixels too wide.
    """
    height, width = shape
    spans = np.zeros((height, 2), np.int64)
    for y in range(height):
        first, last = width, 0
        for start in range(0, width, _STRETCH):
            stop = min(start + _STRETCH, width)
            part, count = pixels[y * pitch + start : y * pitch + stop], 0
            for j in range(part.size):
                count += part[j] != 0
            if count:
                first = min(first, start)
                last = stop
        if first < last:
            spans[y, 0], spans[y, 1] = first, last
    return spans


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
def _clear(out: NDArray[Any]) -> None:
    for j in range(out.size):
        out[j] = 0.0


@njit(cache=True, nogil=True)
def _add_scaled(out: NDArray[np.float64], x: NDArray[np.float64], t: float) -> None:
    for j in range(out.size):
        out[j] = fma(x[j], t, out[j])


_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15 = (
    np.uint64(i) for i in range(1, 16)
)


@njit(cache=True, nogil=True)
def _add_shifted(out: NDArray[np.float64], x: NDArray[np.float64], t: NDArray[np.float64]) -> None:
    """Eight links of the chain along x: ``out[j] += x[j + k] * t[k]``, k = 0 .. 7."""
    t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
    for j in range(np.uint64(out.size)):
        s = fma(x[j], t0, out[j])
        s = fma(x[j + _1], t1, s)
        s = fma(x[j + _2], t2, s)
        s = fma(x[j + _3], t3, s)
        s = fma(x[j + _4], t4, s)
        s = fma(x[j + _5], t5, s)
        s = fma(x[j + _6], t6, s)
        out[j] = fma(x[j + _7], t7, s)


@njit(cache=True, nogil=True)
def _start_shifted(
    out: NDArray[np.float64], x: NDArray[np.float64], t: NDArray[np.float64]
) -> None:
    """The first sixteen links of the chain along x, from nothing."""
    t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
    t8, t9, t10, t11, t12, t13, t14, t15 = t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15]
    for j in range(np.uint64(out.size)):
        s = fma(x[j], t0, 0.0)
        s = fma(x[j + _1], t1, s)
        s = fma(x[j + _2], t2, s)
        s = fma(x[j + _3], t3, s)
        s = fma(x[j + _4], t4, s)
        s = fma(x[j + _5], t5, s)
        s = fma(x[j + _6], t6, s)
        s = fma(x[j + _7], t7, s)
        s = fma(x[j + _8], t8, s)
        s = fma(x[j + _9], t9, s)
        s = fma(x[j + _10], t10, s)
        s = fma(x[j + _11], t11, s)
        s = fma(x[j + _12], t12, s)
        s = fma(x[j + _13], t13, s)
        s = fma(x[j + _14], t14, s)
        s = fma(x[j + _15], t15, s)
        out[j] = s


@njit(cache=True, nogil=True)
def gather_row(
    row: NDArray[np.float64], taps: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """``out[j] = sum over k of row[j + k] * taps[k]``, k rising: the dense form."""
    n, k = out.size, 0
    if taps.size >= 16:
        _start_shifted(out, row[: n + 15], taps[:16])
        k = 16
    else:
        _clear(out)
    while k + 8 <= taps.size:
        _add_shifted(out, row[k : k + n + 7], taps[k : k + 8])
        k += 8
    for i in range(k, taps.size):
        _add_scaled(out, row[i : i + n], taps[i])


@njit(cache=True, nogil=True)
def _scatter_row(
    row: NDArray[Any],
    reversed_taps: NDArray[np.float64],
    first: int,
    last: int,
    out: NDArray[np.float64],
) -> None:
    """The same chain with the zero pixels left out: each other pixel adds itself where it reaches.

    Pixels come in rising x, so every sum meets its terms in the order of the dense form.
    """
    _clear(out)
    reach = reversed_taps.size - 1
    for x in range(first, last):
        value = np.float64(row[x])
        if value != 0.0:
            lo = max(0, x - reach)
            hi = min(out.size, x + 1)
            shift = reach - x
            _add_scaled(out[lo:hi], reversed_taps[lo + shift : hi + shift], value)


_P1, _P2, _P3, _P4, _P5, _P6, _P7 = (np.uint64(i * _PITCH) for i in range(1, 8))


@njit(cache=True, nogil=True)
def _push(
    sums: NDArray[np.float64], rows: NDArray[np.float64], t: NDArray[np.float64], n: int
) -> None:
    """Eight rows into four neighbouring sums along y: row a enters sum b by ``t[3 + a - b]``."""
    t0, t1, t2, t3, t4, t5 = t[0], t[1], t[2], t[3], t[4], t[5]
    t6, t7, t8, t9, t10 = t[6], t[7], t[8], t[9], t[10]
    for j in range(np.uint64(n)):
        a, b, c, d = sums[j], sums[j + _P1], sums[j + _P2], sums[j + _P3]
        x = rows[j]
        a, b, c, d = fma(x, t3, a), fma(x, t2, b), fma(x, t1, c), fma(x, t0, d)
        x = rows[j + _P1]
        a, b, c, d = fma(x, t4, a), fma(x, t3, b), fma(x, t2, c), fma(x, t1, d)
        x = rows[j + _P2]
        a, b, c, d = fma(x, t5, a), fma(x, t4, b), fma(x, t3, c), fma(x, t2, d)
        x = rows[j + _P3]
        a, b, c, d = fma(x, t6, a), fma(x, t5, b), fma(x, t4, c), fma(x, t3, d)
        x = rows[j + _P4]
        a, b, c, d = fma(x, t7, a), fma(x, t6, b), fma(x, t5, c), fma(x, t4, d)
        x = rows[j + _P5]
        a, b, c, d = fma(x, t8, a), fma(x, t7, b), fma(x, t6, c), fma(x, t5, d)
        x = rows[j + _P6]
        a, b, c, d = fma(x, t9, a), fma(x, t8, b), fma(x, t7, c), fma(x, t6, d)
        x = rows[j + _P7]
        a, b, c, d = fma(x, t10, a), fma(x, t9, b), fma(x, t8, c), fma(x, t7, d)
        sums[j], sums[j + _P1], sums[j + _P2], sums[j + _P3] = a, b, c, d


@njit(cache=True, nogil=True)
def _sum_row(
    line: NDArray[Any],
    first: int,
    last: int,
    taps: NDArray[np.float64],
    reversed_taps: NDArray[np.float64],
    source: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """The sums along x of one row, in whichever form is cheaper: their bits are the same."""
    count, part = 0, line[first:last]
    for x in range(part.size):
        count += part[x] != 0
    if 4 * count < out.size:
        _scatter_row(line, reversed_taps, first, last, out)
    else:
        for x in range(line.size):
            source[x] = line[x]
        gather_row(source[: line.size], taps, out)


@njit(cache=True, nogil=True)
def _write_row(sums: NDArray[np.float64], lo: int, hi: int, out: NDArray[Any]) -> None:
    _clear(out[:lo])
    part, target = sums[lo:hi], out[lo:hi]
    for j in range(part.size):
        target[j] = part[j]
    _clear(out[hi:])


@njit(cache=True, nogil=True)
def _blur(
    pixels: NDArray[Any],
    pitch: int,
    spans: NDArray[np.int64],
    taps_y: NDArray[np.float64],
    radius_y: int,
    taps_x: NDArray[np.float64],
    reversed_taps: NDArray[np.float64],
    panel: int,
    sums: NDArray[np.float64],
    rows: NDArray[np.float64],
    out: NDArray[Any],
    pitch_out: int,
    width: int,
) -> None:
    """Both passes, one panel of columns after the other, eight input rows at a time.

    The sums along y that are under way go round in `sums`, in groups of four outputs. A group is
    written out, and cleared, once the last row in its reach has been pushed.
    """
    reach_x, reach_y = taps_x.size - 1, 2 * radius_y
    below = spans.shape[0]
    height = below - reach_y
    size = sums.size // (_GROUP * _PITCH)
    source = np.empty(panel + reach_x)
    touched = np.empty((size, 2), np.int64)  # columns of a group's sums that are not zero
    active = np.empty(_ROWS, np.bool_)

    for x0 in range(0, width, panel):
        x1 = min(x0 + panel, width)
        n = x1 - x0
        for g in range(size):
            touched[g, 0], touched[g, 1] = n, 0
        finished = 0
        for y0 in range(0, below, _ROWS):
            y1 = min(y0 + _ROWS, below)
            lo, hi, count = n, 0, 0
            for y in range(y0, y1):
                first = max(spans[y, 0] - x0, 0)
                last = min(spans[y, 1] - x0, n + reach_x)
                active[y - y0] = first < last
                if first < last:
                    line = pixels[y * pitch + x0 : y * pitch + x1 + reach_x]
                    at = (y - y0) * _PITCH
                    _sum_row(line, first, last, taps_x, reversed_taps, source, rows[at : at + n])
                    lo = min(lo, max(0, first - reach_x) // 8 * 8)
                    hi = max(hi, min(n, last))
                    count += 1

            if count > 0 and lo < hi:
                begin = max(0, y0 - reach_y) // _GROUP
                end = min(height - 1, y1 - 1) // _GROUP + 1
                for g in range(begin, end):
                    touched[g % size, 0] = min(touched[g % size, 0], lo)
                    touched[g % size, 1] = max(touched[g % size, 1], hi)
            if count > 1 and lo < hi:
                for i in range(_ROWS):
                    if y0 + i >= y1 or not active[i]:
                        _clear(rows[i * _PITCH + lo : i * _PITCH + hi])
                for g in range(begin, end):
                    slot = (g % size) * _GROUP * _PITCH
                    tap = _MARGIN + y0 - _GROUP * g - (_GROUP - 1)
                    _push(
                        sums[slot + lo : slot + _GROUP * _PITCH],
                        rows[lo:],
                        taps_y[tap : tap + _ROWS + _GROUP - 1],
                        hi - lo,
                    )
            elif count == 1 and lo < hi:
                i = 0
                while not active[i]:
                    i += 1
                for y in range(max(0, y0 + i - reach_y), min(height, y0 + i + 1)):
                    slot = ((y // _GROUP) % size * _GROUP + y % _GROUP) * _PITCH
                    _add_scaled(
                        sums[slot + lo : slot + hi],
                        rows[i * _PITCH + lo : i * _PITCH + hi],
                        taps_y[_MARGIN + y0 + i - y],
                    )

            while finished < height and (y1 == below or finished + _GROUP - 1 + reach_y < y1):
                g = (finished // _GROUP) % size
                lo, hi = touched[g, 0], max(touched[g, 0], touched[g, 1])
                for i in range(_GROUP):
                    slot = (g * _GROUP + i) * _PITCH
                    if finished + i < height:
                        start = (finished + i) * pitch_out
                        _write_row(sums[slot : slot + n], lo, hi, out[start + x0 : start + x1])
                    _clear(sums[slot + lo : slot + hi])
                touched[g, 0], touched[g, 1] = n, 0
                finished += _GROUP
