"""Weighted sums over the window around every pixel of two padded tiles, streamed row by row.

`ncc` and `ssim` are made of these sums: of the pixels of both tiles about an offset, of their
squares and of their product, in float64. A window counts all its pixels alike, and is then summed
by the fixed tree of `window_sums`; or it has weights that are the same along both axes, and is
then a fixed chain of fused multiply-adds. Either way a sum has the same bits under any tiling.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bigcorr.kernels.fused import fma
from bigcorr.kernels.scratch import kept
from bigcorr.kernels.window_sums import Tree, plan_tree, push_row, sum_along_row

_PANEL = 1024
"""Columns that are streamed at a time: narrower panels spend more on starting loops than the
cache gives back."""

EQUAL = np.empty(0)
"""The taps of a window that counts all its pixels alike."""


class Window(NamedTuple):
    """How the pixels of a window are added up.

    size : its side in pixels.
    tree : the order of the sums where all pixels count alike.
    taps : (size,) weights along each axis, else of size 0.
    total : the sum of all its weights.
    """

    size: int
    tree: Tree
    taps: NDArray[np.float64]
    total: float


class Room(NamedTuple):
    """Working memory: rows that hold the quantities one after the other, `pitch` apart.

    Each step is one loop over all of them; what a window gathers across a seam is not used.
    """

    panel: int
    pitch: int
    ring: NDArray[np.float64]
    work: NDArray[np.float64]
    total: NDArray[np.float64]


def plan_window(size: int, taps: NDArray[np.float64] = EQUAL) -> Window:
    """A window of side `size`; with `taps` its pixels are weighted by them along both axes."""
    total = _chain(_chain(1.0, taps), taps) if taps.size else float(size * size)
    return Window(size, plan_tree(size), taps, total)


def least_weight(window: Window, min_valid: float) -> float:
    """Weight that the valid pixels of a window must have; more than that of none at all."""
    lightest = float(window.taps.min()) ** 2 / 2 if window.taps.size else 1.0
    return max(min_valid * window.total, lightest)


def make_room(window: Window, width: int, quantities: int) -> Room:
    """Room for rows of `quantities` sums over a tile whose result has `width` columns."""
    panel = min(_PANEL, max(width, 1))
    pitch = _pitch(panel, window.size)
    row = quantities * pitch
    slots, levels = _rows(window.size, window.taps.size > 0)
    return Room(
        panel,
        pitch,
        kept(slots * row, "moments ring").reshape(slots, row),
        kept(levels * row, "moments work").reshape(levels, row),
        kept(row, "moments total")[: row - window.size + 1],
    )


def room_bytes(width: int, size: int, weighted: bool, quantities: int) -> int:
    """Bytes of `make_room`."""
    return 8 * quantities * (sum(_rows(size, weighted)) + 1) * _pitch(min(_PANEL, width), size)


def _rows(size: int, weighted: bool) -> tuple[int, int]:
    """Rows of the ring, and of the work along x."""
    depth = plan_tree(size).depth
    return (size, 1) if weighted else (int(depth.sum()), depth.size)


def _pitch(panel: int, size: int) -> int:
    """Elements from one quantity to the next: an odd number of cache lines."""
    return -(-(panel + size - 1) // 8) // 2 * 16 + 8


def as_floats(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both tiles as floats of one kind: the smaller that holds every value."""
    dtype = np.result_type(_float_of(a), _float_of(b))
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


def _float_of(x: NDArray[Any]) -> type[np.floating]:
    small = x.dtype.itemsize <= (4 if x.dtype.kind == "f" else 2)
    return np.float32 if small else np.float64


def all_finite(x: NDArray[Any]) -> bool:
    """Whether no pixel of a tile is NaN or infinite."""
    return bool(np.isfinite(x).all())


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
def _chain(value: float, taps: NDArray[np.float64]) -> float:
    """What `weigh_rows` and `gather_row` make of a constant: the same links in the same order."""
    total = 0.0
    for k in range(taps.size):
        total = fma(value, taps[k], total)
    return total


@njit(cache=True, nogil=True)
def first_slots(depth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each level of the tree begins in the ring."""
    first = np.empty(depth.size, np.int64)
    slots = 0
    for k in range(depth.size):
        first[k] = slots
        slots += depth[k]
    return first


@njit(cache=True, nogil=True, error_model="numpy")
def load_row(
    a: NDArray[Any],
    b: NDArray[Any],
    offset_a: float,
    offset_b: float,
    joint: bool,
    masked: bool,
    row: int,
    window: Window,
    room: Room,
) -> None:
    """Begin row `row` of a panel: its pixels about the offsets, x and y.

    With `masked` a missing pixel is 0 in both, and the last quantity counts the valid ones. This
    is all that has to be compiled for each kind of floats.
    """
    n, pitch = a.size, room.pitch
    out = room.work[0] if window.taps.size else room.ring[row % window.tree.depth[0]]
    x, y = out[:n], out[pitch : pitch + n]
    for j in range(n):
        x[j] = a[j] - offset_a
    for j in range(n):
        y[j] = b[j] - offset_b
    if masked:
        at = (4 if joint else 5) * pitch
        valid = out[at : at + n]
        for j in range(n):
            both = np.isfinite(a[j]) & np.isfinite(b[j])
            valid[j] = 1.0 if both else 0.0
            x[j] = x[j] if both else 0.0
            y[j] = y[j] if both else 0.0


@njit(cache=True, nogil=True)
def _multiply(a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for j in range(out.size):
        out[j] = a[j] * b[j]


@njit(cache=True, nogil=True)
def _products(row: NDArray[np.float64], pitch: int, n: int, joint: bool) -> None:
    """The quantities after x and y, `pitch` apart: x y, x x, y y; with `joint` x y, x x + y y."""
    x, y = row[:n], row[pitch : pitch + n]
    _multiply(x, y, row[2 * pitch : 2 * pitch + n])
    if joint:
        squares = row[3 * pitch : 3 * pitch + n]
        for j in range(n):
            squares[j] = x[j] * x[j] + y[j] * y[j]
    else:
        _multiply(x, x, row[3 * pitch : 3 * pitch + n])
        _multiply(y, y, row[4 * pitch : 4 * pitch + n])


@njit(cache=True, nogil=True)
def _add_weighted(
    out: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    d: NDArray[np.float64],
    taps: NDArray[np.float64],
) -> None:
    t0, t1, t2, t3 = taps[0], taps[1], taps[2], taps[3]
    for j in range(out.size):
        out[j] = fma(d[j], t3, fma(c[j], t2, fma(b[j], t1, fma(a[j], t0, out[j]))))


@njit(cache=True, nogil=True)
def _weigh_rows(
    ring: NDArray[np.float64], row: int, taps: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """The weighted sum of the rows of the ring, of which row `row` is the last."""
    for j in range(out.size):
        out[j] = 0.0
    n, size = out.size, taps.size
    oldest = row + 1 - size
    k = 0
    while k + 4 <= size:
        _add_weighted(
            out,
            ring[(oldest + k) % size, :n],
            ring[(oldest + k + 1) % size, :n],
            ring[(oldest + k + 2) % size, :n],
            ring[(oldest + k + 3) % size, :n],
            taps[k : k + 4],
        )
        k += 4
    while k < size:
        t, x = taps[k], ring[(oldest + k) % size, :n]
        for j in range(n):
            out[j] = fma(x[j], t, out[j])
        k += 1


@njit(cache=True, nogil=True, error_model="numpy")
def take_row(
    columns: int,
    joint: bool,
    masked: bool,
    row: int,
    window: Window,
    first: NDArray[np.int64],
    room: Room,
) -> bool:
    """Take in a row that `load_row` began; whether ``room.total`` now holds sums of windows.

    These are the sums of the windows that end with this row, one quantity after the other: x, y
    and those of `_products`, and with `masked` the weight of the valid pixels.
    """
    pitch, size = room.pitch, window.size
    if window.taps.size:
        quantities, n = (4 if joint else 5) + masked, columns - size + 1
        _products(room.work[0], pitch, columns, joint)
        for i in range(quantities):
            at = i * pitch
            gather_row(
                room.work[0, at : at + columns], window.taps, room.ring[row % size, at : at + n]
            )
        if row + 1 >= size:
            _weigh_rows(room.ring, row, window.taps, room.total)
        return row + 1 >= size
    _products(room.ring[row % window.tree.depth[0]], pitch, columns, joint)
    push_row(room.ring, first, window.tree, row, room.work[0])
    if row + 1 >= size:
        sum_along_row(room.work, window.tree, size, room.total)
    return row + 1 >= size
