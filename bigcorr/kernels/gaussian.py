"""Gaussian blur of one padded tile: taps, the separable blur, and the blur with missing pixels.

Arrays in, arrays out; the caller has already padded the tile. No dask, files or rasters.

Each sum, first along x, then along y, goes from the middle outwards and takes the two pixels at one
distance together (see `fold`). So it does not depend on where the tile begins, and the same pixel
has the same bits under any tiling. A pair of zeros adds nothing to such a sum: empty rows and
columns are left out with the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.fold import fold
from bigcorr.kernels.fused import fma
from bigcorr.kernels.jit import njit
from bigcorr.kernels.rows import fetch_row, raw_rows, raw_target, read_row, write_row
from bigcorr.kernels.scratch import kept
from bigcorr.kernels.vectors import LANES, transpose

_PANEL = 256
"""Columns that are blurred at a time: their sums along x stay in the second-level cache."""
_PITCH = _PANEL + 8
"""From one row of sums to the next: an odd number of cache lines, or rows would share places."""
_GROUP = 16
"""Rows that are summed along y at a time: what is read serves all of them."""
_SPARE = 64
"""Rows of sums that are held beside those in reach, so that they are seldom moved up."""
_FEW = 4
"""Where at most one row in so many holds anything, the others are left out one by one."""
_STRETCH = 128
"""Bytes that are looked at together for whether any is not zero."""

TINY = 1e-150
"""A sigma below which no other pixel has any weight that a float holds."""

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
    if sigma < TINY:  # its square is no number to divide by
        return np.array(offset == 0, np.float64)
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
        Weights along each axis, symmetric (see `gaussian_taps`).
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
    if out is None:
        out = np.empty(
            [n - taps.size + 1 for n, taps in zip(padded.shape, (taps_y, taps_x), strict=True)]
        )
    blur_finite(padded, taps_y, taps_x, out, anyway=True)
    return out


def blur_finite(
    padded: NDArray[Any],
    taps_y: NDArray[np.float64],
    taps_x: NDArray[np.float64],
    out: NDArray[Any],
    *,
    anyway: bool = False,
) -> bool:
    """`blur_tile` if all pixels are finite, as most tiles turn out to be while they are blurred.

    Returns
    -------
    bool
        False if a pixel is not; `out` is then half written, unless it was to be done `anyway`.
    """
    radius_y, radius_x = taps_y.size // 2, taps_x.size // 2
    shape = padded.shape[0] - 2 * radius_y, padded.shape[1] - 2 * radius_x
    if padded.dtype not in _NATIVE:
        small = padded.dtype.itemsize <= 2
        padded = padded.astype(np.float32 if small else np.float64)
    sums, lanes = _sizes(radius_y, radius_x)
    finite = _blur(
        *raw_rows(padded),
        padded.shape[0],
        taps_y[radius_y:],
        taps_x[radius_x:],
        kept(sums, "gaussian sums"),
        kept(lanes, "gaussian lanes"),
        kept(lanes, "gaussian rows"),
        *raw_target(out),
        shape[1],
        anyway,
    )
    return bool(finite)


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


def work_bytes(radius: tuple[int, int], height: int) -> int:
    """Bytes that `blur_tile` holds at most beside a padded tile of `height` rows and its result."""
    sums, lanes = _sizes(*radius)
    return 8 * (sums + 2 * lanes + _GROUP * _PITCH + 2 * (sums // _PITCH) + 2 * LANES)


def _sizes(radius_y: int, radius_x: int) -> tuple[int, int]:
    """Elements of the sums along x, and of eight rows of pixels."""
    rows = 2 * radius_y + _GROUP + LANES + _SPARE
    return rows * _PITCH, LANES * (_PANEL + 2 * radius_x + 3 * LANES)


@njit(cache=True, nogil=True)
def _look_up(
    raw: NDArray[np.uint8],
    item: int,
    pitch: int,
    first: int,
    length: int,
    occupied: NDArray[np.int64],
) -> None:
    """For rows from pixel `first` on, columns outside which each is zero; (0, 0): all of it.

    Looked up by stretches of bytes, from either end to what is not empty: some pixels wide.
    """
    for y in range(occupied.shape[0]):
        start = (first + y * pitch) * item
        lo, hi = start, start + length * item
        while lo < hi and _is_empty(raw[lo : min(lo + _STRETCH, hi)]):
            lo += _STRETCH
        while lo < hi and _is_empty(raw[max(hi - _STRETCH, lo) : hi]):
            hi -= _STRETCH
        some = lo < hi
        occupied[y, 0] = (lo - start) // item if some else 0
        occupied[y, 1] = (hi - start) // item if some else 0


@njit(cache=True, nogil=True)
def _is_empty(part: NDArray[np.uint8]) -> bool:
    bits = 0
    for j in range(part.size):
        bits |= part[j]
    return bits == 0


@njit(cache=True, nogil=True)
def _reached(occupied: NDArray[np.int64], reach: int, n: int) -> tuple[int, int]:
    """Of `n` columns of sums along rows, those outside which all are zero, from a multiple of 8."""
    lo, hi = n, 0
    for first, last in occupied:
        if first < last:
            lo = min(lo, max(first - reach, 0) // LANES * LANES)
            hi = max(hi, min(last, n))
    return lo, hi


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
def _clear(out: NDArray[np.float64]) -> None:
    for j in range(out.size):
        out[j] = 0.0


@njit(cache=True, nogil=True)
def _sum_rows(
    raw: NDArray[np.uint8],
    item: int,
    pitch: int,
    begin: int,
    count: int,
    lo: int,
    hi: int,
    half: NDArray[np.float64],
    rows: NDArray[np.float64],
    lanes: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Columns `lo` (a multiple of eight) to `hi` of the sums along x, of up to eight rows.

    Eight rows side by side are one row of vectors, along which the sums are taken.
    """
    radius = half.size - 1
    length, step = hi - lo + 2 * radius, lanes.size // LANES
    last = begin + lo + (LANES - 1) * pitch + -(-length // LANES) * LANES
    if count == LANES and last * item <= raw.size:
        if item == 8:
            _turn(raw.view(np.float64), begin + lo, pitch, length, lanes)
        elif item == 4:
            _turn(raw.view(np.float32), begin + lo, pitch, length, lanes)
        else:
            _turn(raw, begin + lo, pitch, length, lanes)
    else:
        for i in range(count):
            read_row(raw, item, begin + i * pitch + lo, 0.0, rows[i * step : i * step + length])
        _turn(rows, 0, step, length, lanes)
    line = np.int64(LANES)
    for x in range(0, hi - lo, 4):
        fold(lanes, (x + radius) * line, line, half, radius, rows, x * line, line)
    for x in range(0, hi - lo, LANES):
        transpose(rows, x * LANES, LANES, sums, lo + x, _PITCH)


@njit(cache=True, nogil=True)
def _turn(
    flat: NDArray[Any], start: int, pitch: int, length: int, lanes: NDArray[np.float64]
) -> None:
    """Eight rows, and up to seven pixels more of each, as one row of vectors."""
    for x in range(0, length, LANES):
        transpose(flat, start + x, pitch, lanes, x * LANES, LANES)


@njit(cache=True, nogil=True)
def _busy(spans: NDArray[np.int64]) -> tuple[int, int, int, int, int]:
    """Columns outside which all rows are zero; the first and last row that is not, and how many."""
    lo, hi, top, bottom, busy = _PANEL, 0, spans.shape[0], 0, 0
    for y in range(spans.shape[0]):
        if spans[y, 0] < spans[y, 1]:
            lo, hi = min(lo, spans[y, 0]), max(hi, spans[y, 1])
            top, bottom = min(top, y), y
            busy += 1
    return lo, hi, top, bottom, busy


@njit(cache=True, nogil=True)
def _fold_columns(
    sums: NDArray[np.float64],
    lo: int,
    hi: int,
    top: int,
    bottom: int,
    lines: int,
    half: NDArray[np.float64],
    out: NDArray[Any],
    to: int,
    pitch: int,
) -> None:
    """The sums along y of `lines` rows, whose supports are zero above `top` and below `bottom`."""
    radius, line = half.size - 1, np.int64(_PITCH)
    for j in range(lo, hi, LANES):
        for i in range(0, lines, 4):
            middle = radius + i
            far = min(radius, max(0, middle + 3 - top, bottom - middle))  # beyond it all is zero
            fold(sums, middle * line + j, line, half, far, out, to + i * pitch + j, pitch)


@njit(cache=True, nogil=True)
def _add_columns(
    sums: NDArray[np.float64],
    spans: NDArray[np.int64],
    lo: int,
    hi: int,
    lines: int,
    half: NDArray[np.float64],
    total: NDArray[np.float64],
) -> None:
    """The same where few rows hold anything, which alone are taken."""
    radius = half.size - 1
    for i in range(lines):
        target = total[i * _PITCH + lo : i * _PITCH + hi]
        _clear(target)
        for k in range(radius + 1):
            before, after = radius + i - k, radius + i + k
            if spans[before, 0] < spans[before, 1] or spans[after, 0] < spans[after, 1]:
                above = sums[before * _PITCH + lo : before * _PITCH + hi]
                below = sums[after * _PITCH + lo : after * _PITCH + hi]
                _add_pair(above, below, half[k] if k else half[0] / 2, target)


@njit(cache=True, nogil=True)
def _add_pair(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: float, out: NDArray[np.float64]
) -> None:
    """One step of `fold`, for rows of which few hold anything."""
    for j in range(out.size):
        out[j] = fma(x[j] + y[j], weight, out[j])


@njit(cache=True, nogil=True)
def _blur(
    raw: NDArray[np.uint8],
    item: int,
    pitch: int,
    height: int,
    half_y: NDArray[np.float64],
    half_x: NDArray[np.float64],
    sums: NDArray[np.float64],
    lanes: NDArray[np.float64],
    rows: NDArray[np.float64],
    out: NDArray[np.uint8],
    item_out: int,
    pitch_out: int,
    width: int,
    anyway: bool,
) -> bool:
    """Both passes, one panel of columns after the other, eight rows at a time.

    `sums` holds the sums along x from row `top` of the padded tile on, as many as are in reach of
    what is not done, and some more: they are moved up when it is full.
    """
    reach_y, reach_x = 2 * half_y.size - 2, 2 * half_x.size - 2
    room = sums.size // _PITCH
    spans = np.zeros((room, 2), np.int64)  # beyond these columns a row of sums is zero
    for i in range(room):
        spans[i, 1] = _PITCH
    total = np.empty(_GROUP * _PITCH)
    occupied = np.empty((LANES, 2), np.int64)
    for x0 in range(0, width, _PANEL):
        n = min(_PANEL, width - x0)
        top = held = done = 0
        for y0 in range(0, height, LANES):
            y1 = min(y0 + LANES, height)
            if held + LANES > room:
                shift = done - top
                for i in range(held - shift):
                    _move_row(sums, spans, i + shift, i)
                top, held = done, held - shift
            for y in range(y1, min(y1 + LANES, height)):
                fetch_row(raw, item, y * pitch + x0, n + reach_x)
            near = occupied[: y1 - y0]
            _look_up(raw, item, pitch, y0 * pitch + x0, n + reach_x, near)
            lo, hi = _reached(near, reach_x, n)
            if lo < hi:
                begin = y0 * pitch + x0
                part = sums[held * _PITCH :]
                _sum_rows(raw, item, pitch, begin, y1 - y0, lo, hi, half_x, rows, lanes, part)
                if not anyway and not _are_finite(part, y1 - y0, lo, hi):
                    return False
            for i in range(LANES):
                line, before, behind = (
                    sums[(held + i) * _PITCH :],
                    spans[held + i, 0],
                    spans[held + i, 1],
                )
                if lo < hi:
                    _clear(line[before : min(lo, behind)])
                    _clear(line[hi : max(-(-hi // LANES) * LANES, behind)])
                    holds = y0 + i >= y1 or occupied[i, 0] < occupied[i, 1]
                    spans[held + i, 0], spans[held + i, 1] = lo, hi if holds else lo
                elif y0 + i < y1:
                    _clear(line[before:behind])
                    spans[held + i, 1] = before
            held += y1 - y0
            while done + reach_y < height:
                lines = min(_GROUP, height - reach_y - done)
                if done + lines + reach_y > y1:
                    break
                part = sums[(done - top) * _PITCH :]
                near = spans[done - top : done - top + lines + reach_y]
                lo, hi, above, below, busy = _busy(near)
                few, to = _FEW * busy < below + 1 - above, done * pitch_out + x0
                start, whole = np.int64(0), lo == 0 and hi == n and not few
                if whole and item_out == 4 and n % LANES == 0 and lines % 4 == 0:
                    target = out.view(np.float32)
                    _fold_columns(
                        part, start, n, above, below, lines, half_y, target, to, pitch_out
                    )
                else:
                    if few:
                        _add_columns(part, near, lo, hi, lines, half_y, total)
                    else:
                        _fold_columns(
                            part,
                            lo,
                            hi,
                            above,
                            below,
                            lines,
                            half_y,
                            total,
                            start,
                            np.int64(_PITCH),
                        )
                    for i in range(lines):
                        line = total[i * _PITCH : i * _PITCH + n]
                        _clear(line[:lo])
                        _clear(line[max(lo, hi) :])
                        write_row(line, out, item_out, to + i * pitch_out)
                done += lines
    return True


@njit(cache=True, nogil=True)
def _are_finite(sums: NDArray[np.float64], lines: int, lo: int, hi: int) -> bool:
    """Whether no sum, and so no pixel behind them, is NaN or infinite."""
    count = 0
    for i in range(lines):
        line = sums[i * _PITCH + lo : i * _PITCH + hi]
        for j in range(line.size):
            count += line[j] - line[j] == 0.0
    return count == lines * (hi - lo)


@njit(cache=True, nogil=True)
def _move_row(
    sums: NDArray[np.float64], spans: NDArray[np.int64], source: int, target: int
) -> None:
    line = sums[target * _PITCH : (target + 1) * _PITCH]
    _clear(line[spans[target, 0] : spans[target, 1]])
    lo, hi = spans[source, 0], spans[source, 1]
    part, old = line[lo:hi], sums[source * _PITCH + lo : source * _PITCH + hi]
    for j in range(part.size):
        part[j] = old[j]
    spans[target, 0], spans[target, 1] = lo, hi
