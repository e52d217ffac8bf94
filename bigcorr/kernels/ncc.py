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

from bigcorr.kernels.fused import fma
from bigcorr.kernels.scratch import kept
from bigcorr.kernels.window_sums import Tree, plan_tree, push_row, sliding_extreme, sum_along_row

CONDITION_FLOOR = 1e-8
"""Centred over raw sum of squares below which float moments are worked out again by two passes.

A tree of float64 sums is off by a few 1e-16 of the raw sum, so what stands has a few 1e-8 at worst.
"""

_PANEL_WIDTH = 1024  # narrower panels spend more on starting loops than the cache gives back
_AGAIN = 2.0  # marks, in a map of values from -1 to 1, a window that has to be worked out again
_BAND_BYTES = (
    8 * 1024 * 1024
)  # what one band of rows may take while constant windows are looked for


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
        Share of the window's pixels that must be valid in both.
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
    dtype = np.result_type(_float_of(a), _float_of(b))
    a, b = (np.ascontiguousarray(x, dtype) for x in (a, b))
    masked = not (np.isfinite(a).all() and np.isfinite(b).all())
    tree = plan_tree(window)
    slots, levels, panel = (
        int(tree.depth.sum()),
        tree.depth.size,
        min(_PANEL_WIDTH, max(shape[1], 1)),
    )
    row = (6 if masked else 5) * _pitch(panel, window)
    again = _ncc(
        a,
        b,
        float(offset_a),
        float(offset_b),
        window,
        tree,
        masked,
        max(min_valid * window * window, 1.0),
        0.0 if exact else CONDITION_FLOOR,
        panel,
        kept(slots * row, "ncc ring").reshape(slots, row),
        kept(levels * row, "ncc work").reshape(levels, row),
        kept(row, "ncc total")[: row - window + 1],
        out,
    )
    if again:
        _work_out_again(a, b, window, masked, out)
    return out


def work_bytes(tile: tuple[int, int], window: int) -> int:
    """Bytes that `ncc_tile` holds at most beside its tiles as floats and its result."""
    tree = plan_tree(window)
    rows = int(tree.depth.sum()) + tree.depth.size + 3
    rings = 8 * 6 * rows * _pitch(min(_PANEL_WIDTH, tile[1]), window)
    # Constant windows are looked for band by band: extremes of a tile, with two steps at a time.
    band = max(window, _BAND_BYTES // (4 * (tile[1] + window))) + window
    return rings + 6 * 8 * min(band, tile[0] + window) * (tile[1] + window)


def _pitch(panel: int, window: int) -> int:
    """Elements from one quantity to the next: an odd number of cache lines."""
    return -(-(panel + window - 1) // 8) // 2 * 16 + 8


def _float_of(x: NDArray[Any]) -> type[np.floating]:
    """The smaller float type that holds every value of the tile's dtype, as far as there is one."""
    small = x.dtype.itemsize <= (4 if x.dtype.kind == "f" else 2)
    return np.float32 if small else np.float64


@njit(cache=True, nogil=True, error_model="numpy")
def _load(
    a: NDArray[Any],
    b: NDArray[Any],
    offset_a: float,
    offset_b: float,
    masked: bool,
    pitch: int,
    out: NDArray[np.float64],
) -> None:
    """The quantities of one row about the offsets, `pitch` elements apart: x, y, x x, y y, x y.

    With `masked` a missing pixel is 0 in all of them, and the sixth counts the valid ones.
    """
    n = a.size
    x, y = out[:n], out[pitch : pitch + n]
    for j in range(n):
        x[j] = a[j] - offset_a
    for j in range(n):
        y[j] = b[j] - offset_b
    if masked:
        valid = out[5 * pitch : 5 * pitch + n]
        for j in range(n):
            both = np.isfinite(a[j]) & np.isfinite(b[j])
            valid[j] = 1.0 if both else 0.0
            x[j] = x[j] if both else 0.0
            y[j] = y[j] if both else 0.0
    xx, yy = out[2 * pitch : 2 * pitch + n], out[3 * pitch : 3 * pitch + n]
    for j in range(n):
        xx[j] = x[j] * x[j]
    for j in range(n):
        yy[j] = y[j] * y[j]
    xy = out[4 * pitch : 4 * pitch + n]
    for j in range(n):
        xy[j] = x[j] * y[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _centred(n: float, sum_ab: float, sum_a: float, sum_b: float) -> float:
    """``n * sum_ab - sum_a * sum_b``, rounded once where the two terms are close."""
    p = n * sum_ab
    q = sum_a * sum_b
    return (p - q) + (fma(n, sum_ab, -p) - fma(sum_a, sum_b, -q))


@njit(cache=True, nogil=True, error_model="numpy")
def _correlate(
    count: NDArray[np.float64],
    sx: NDArray[np.float64],
    sy: NDArray[np.float64],
    sxx: NDArray[np.float64],
    syy: NDArray[np.float64],
    sxy: NDArray[np.float64],
    floor: float,
    out: NDArray[np.float32],
) -> int:
    """One row of correlations from its moments; how many windows have to be worked out again."""
    again = 0
    for j in range(out.size):
        n = count[j]
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
    b: NDArray[Any],
    offset_a: float,
    offset_b: float,
    window: int,
    tree: Tree,
    masked: bool,
    least: float,
    floor: float,
    panel: int,
    ring: NDArray[np.float64],
    work: NDArray[np.float64],
    total: NDArray[np.float64],
    out: NDArray[np.float32],
) -> int:
    """The whole tile, one panel of columns after the other, each streamed row by row.

    The quantities stand side by side in a row of `ring`, so that each step of the tree is one
    loop over all of them; what a window gathers across a seam is not used.
    """
    width = out.shape[1]
    quantities = 6 if masked else 5
    pitch = ring.shape[1] // quantities
    depth = tree.depth
    first = np.empty(depth.size, np.int64)
    slots = 0
    for k in range(depth.size):
        first[k] = slots
        slots += depth[k]
    count = np.empty(panel)
    for j in range(panel):
        count[j] = window * window

    again = 0
    for x0 in range(0, width, panel):
        x1 = min(x0 + panel, width)
        n = x1 - x0
        m = n + window - 1
        for row in range(a.shape[0]):
            line_a, line_b = a[row, x0 : x0 + m], b[row, x0 : x0 + m]
            _load(line_a, line_b, offset_a, offset_b, masked, pitch, ring[row % depth[0]])
            push_row(ring, first, tree, row, work[0])
            y = row - window + 1
            if y < 0:
                continue
            sum_along_row(work, tree, window, total)
            if masked:
                count = total[5 * pitch : 5 * pitch + n]
            line = out[y, x0:x1]
            again += _correlate(
                count[:n],
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
                    if count[j] < least:
                        again -= line[j] == _AGAIN
                        line[j] = np.nan
    return again


def _work_out_again(
    a: NDArray[Any], b: NDArray[Any], window: int, masked: bool, out: NDArray[np.float32]
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
        _two_passes(a[box], b[box], window, part)


@njit(cache=True, nogil=True, error_model="numpy")
def _two_passes(a: NDArray[Any], b: NDArray[Any], window: int, out: NDArray[np.float32]) -> None:
    """Correlation of the marked windows about the window's own means."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            if out[y, x] != _AGAIN:
                continue
            count = 0
            base_a = base_b = sum_a = sum_b = 0.0
            for i in range(y, y + window):
                for j in range(x, x + window):
                    u, v = np.float64(a[i, j]), np.float64(b[i, j])
                    if np.isfinite(u) and np.isfinite(v):
                        if count == 0:
                            base_a, base_b = u, v
                        count += 1
                        sum_a += u - base_a
                        sum_b += v - base_b
            mean_a, mean_b = sum_a / count, sum_b / count
            aa = bb = ab = rest_a = rest_b = 0.0
            for i in range(y, y + window):
                for j in range(x, x + window):
                    u, v = np.float64(a[i, j]), np.float64(b[i, j])
                    if np.isfinite(u) and np.isfinite(v):
                        p = (u - base_a) - mean_a
                        q = (v - base_b) - mean_b
                        rest_a += p
                        rest_b += q
                        aa += p * p
                        bb += q * q
                        ab += p * q
            aa -= rest_a * rest_a / count
            bb -= rest_b * rest_b / count
            ab -= rest_a * rest_b / count
            r = ab / (np.sqrt(aa) * np.sqrt(bb))
            out[y, x] = min(max(r, -1.0), 1.0)
