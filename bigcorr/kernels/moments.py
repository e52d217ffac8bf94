"""A formula of weighted sums over the window around every pixel of two padded tiles.

`ncc` and `ssim` are made of these sums: of the pixels of both tiles about an offset, of their
product and of their squares, in float64, while rows stream through. A window counts all its pixels
alike, and is then summed by `block_sums`; or it has weights that are symmetric and the same along
both axes, and its sums are then `fold`s. Either way a sum has the same bits under any tiling.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.block_sums import QUANTITIES, add_rows, add_tails, sum_along
from bigcorr.kernels.fold import fold
from bigcorr.kernels.formulas import evaluate
from bigcorr.kernels.gaussian import blur_tile
from bigcorr.kernels.jit import njit
from bigcorr.kernels.rows import fetch_row, raw_rows, raw_target, read_row, rows_of, write_row
from bigcorr.kernels.scratch import kept
from bigcorr.kernels.vectors import LANES, load, store, transpose
from bigcorr.kernels.window_sums import count_windows

PANEL = 256
"""Columns that are streamed at a time: what is held of them stays in the second-level cache."""

EQUAL = np.empty(0)
"""The taps of a window that counts all its pixels alike."""


class Pair(NamedTuple):
    """Two tiles as kernels take them: floats of one kind, about offsets that they can hold.

    a, b : ndarray, shape (h + window - 1, w + window - 1)
    offset_a, offset_b : float
    """

    a: NDArray[Any]
    b: NDArray[Any]
    offset_a: float
    offset_b: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.a.shape


def as_pair(a: NDArray[Any], b: NDArray[Any], offset_a: float, offset_b: float) -> Pair:
    """Take two tiles."""
    dtype = np.result_type(_float_of(a), _float_of(b))
    a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    return Pair(a, b, float(dtype.type(offset_a)), float(dtype.type(offset_b)))


def _float_of(x: NDArray[Any]) -> type[np.floating]:
    small = x.dtype.itemsize <= (4 if x.dtype.kind == "f" else 2)
    return np.float32 if small else np.float64


def whole_weight(window: int, taps: NDArray[np.float64]) -> float:
    """The weight of a window all of whose pixels are valid."""
    if taps.size:
        return float(blur_tile(np.ones((window, window)), taps, taps)[0, 0])
    return float(window * window)


def least_weight(whole: float, taps: NDArray[np.float64], min_valid: float) -> float:
    """Weight that the valid pixels of a window must have; more than that of none at all."""
    lightest = float(taps.min()) ** 2 / 2 if taps.size else 1.0
    return max(min_valid * whole, lightest)


def map_windows(
    pair: Pair,
    window: int,
    taps: NDArray[np.float64],
    formula: int,
    terms: tuple[float, ...],
    min_valid: float,
    origin: tuple[int, int],
    out: NDArray[Any],
) -> bool:
    """Write what a formula makes of the sums of every window.

    What is not finite in either tile is missing in both. It is looked for while the sums are
    taken: most tiles miss nothing, and need not be read twice to know it.

    Parameters
    ----------
    pair : Pair
    window : int
        Side in pixels.
    taps : ndarray of float64, shape (window,)
        Weights along both axes, or `EQUAL`.
    formula, terms
        See `formulas`.
    min_valid : float
        Share of a window's weight that must be valid; NaN is written where it is not.
    origin : (int, int)
        Where the padded tiles begin on the raster: sums are taken in the order of its grid.
    out : ndarray of float32 or float64, shape (h, w)

    Returns
    -------
    bool
        Whether any pixel is missing.
    """
    whole = whole_weight(window, taps)
    if _map(pair, window, taps, formula, terms, whole, origin, out):
        return False
    valid = np.isfinite(pair.a) & np.isfinite(pair.b)
    at_a, at_b = pair.a.dtype.type(pair.offset_a), pair.b.dtype.type(pair.offset_b)
    pair = pair._replace(a=np.where(valid, pair.a, at_a), b=np.where(valid, pair.b, at_b))
    if taps.size:
        weight = blur_tile(valid.view(np.uint8), taps, taps)
    else:
        weight = count_windows(valid, window)
    _map(pair, window, taps, formula, terms, weight, origin, out)
    out[weight < least_weight(whole, taps, min_valid)] = np.nan
    return True


def _map(
    pair: Pair,
    window: int,
    taps: NDArray[np.float64],
    formula: int,
    terms: tuple[float, ...],
    weight: float | NDArray[np.float64],
    origin: tuple[int, int],
    out: NDArray[Any],
) -> bool:
    """The map for windows of these weights, unless pixels are not finite: then False at once."""
    one = isinstance(weight, float)
    finite = _stream(
        *raw_rows(pair.a),
        *raw_rows(pair.b),
        *pair.shape,
        pair.offset_a,
        pair.offset_b,
        origin[0] % window,
        origin[1] % window,
        *rows_of(np.full((1, 1), weight) if one else np.asarray(weight)),
        one,
        formula,
        np.array(terms, np.float64),
        make_room(out.shape[1], window, taps),
        *raw_target(out),
    )
    return bool(finite)


class Room(NamedTuple):
    """What a kernel streams through: the window, and memory to work in.

    Rows go round in as many slots as are in reach. Vectors hold eight rows: element ``8 * x + i``
    of a plane stands for column x of the i-th.

    window : side in pixels.
    half : the weights by distance along each axis; empty where all pixels count alike.
    pitch, slots : elements from slot to slot, and their number.
    plane, step : elements from one quantity to the next of `turned` and of `total`.
    x, y : the pixels about their offsets.
    tails, heads, edge : see `block_sums`. With weights `tails` are the five products, each row in
        two slots, so that any window's rows stand there without a break.
    sums, turned : the sums along y, on their way to vectors and as vectors.
    total : with weights, plane by plane the sums of the windows of eight rows.
    weight, values, lines : as vectors, the windows' weights and what is made of their sums, and
        rows on the way from or to vectors.
    """

    window: int
    half: NDArray[np.float64]
    pitch: int
    slots: int
    plane: int
    step: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    tails: NDArray[np.float64]
    heads: NDArray[np.float64]
    edge: NDArray[np.float64]
    sums: NDArray[np.float64]
    turned: NDArray[np.float64]
    total: NDArray[np.float64]
    weight: NDArray[np.float64]
    values: NDArray[np.float64]
    lines: NDArray[np.float64]


def make_room(width: int, window: int, taps: NDArray[np.float64]) -> Room:
    """Room for windows of a tile whose result has `width` columns."""
    numbers, sizes = _sizes(width, window, taps.size > 0)
    arrays = (kept(size, f"moments {name}") for name, size in sizes.items())
    return Room(window, taps[taps.size // 2 :], *numbers, *arrays)


def room_bytes(width: int, window: int, weighted: bool) -> int:
    """Bytes of `make_room`."""
    return 8 * sum(_sizes(width, window, weighted)[1].values())


def _sizes(
    width: int, window: int, weighted: bool
) -> tuple[tuple[int, int, int, int], dict[str, int]]:
    """The numbers of a `Room`, and the elements of its arrays."""
    panel = -(-min(PANEL, max(width, 1)) // LANES) * LANES
    columns = panel + window - 1
    pitch = (-(-columns // LANES) // 2 * 2 + 1) * LANES  # cache lines in odd numbers
    slots = window + LANES
    plane, step = (pitch + LANES) * LANES, (panel + LANES + 1) * LANES
    sizes = {
        "x": slots * pitch,
        "y": slots * pitch,
        "tails": QUANTITIES * slots * pitch * (2 if weighted else 1),
        "heads": QUANTITIES * pitch,
        "edge": QUANTITIES * window * LANES,
        "sums": QUANTITIES * LANES * (pitch if weighted else LANES),
        "turned": QUANTITIES * plane,
        "total": QUANTITIES * step if weighted else 0,
        "weight": step,
        "values": step,
        "lines": LANES * pitch,
    }
    return (pitch, slots, plane, step), sizes


@njit(cache=True, nogil=True)
def _stream(
    a: NDArray[np.uint8],
    item_a: int,
    pitch_a: int,
    b: NDArray[np.uint8],
    item_b: int,
    pitch_b: int,
    rows: int,
    columns: int,
    offset_a: float,
    offset_b: float,
    phase_y: int,
    phase_x: int,
    weight: NDArray[np.float64],
    pitch_w: int,
    one: bool,
    formula: int,
    terms: NDArray[np.float64],
    room: Room,
    out: NDArray[np.uint8],
    item_out: int,
    pitch_out: int,
) -> bool:
    """The whole tile, one panel of columns after the other, each eight rows at a time."""
    reach = room.window - 1
    if one:
        for j in range(room.weight.size):
            room.weight[j] = weight[0]
    for x0 in range(0, columns - reach, PANEL):
        n = min(PANEL, columns - reach - x0)
        phase = (phase_x + x0) % room.window
        for y in range(-LANES, rows - reach, LANES):
            # First all rows that end no window yet, then eight at a time.
            first, last = y + reach if y >= 0 else 0, min(y + reach + LANES, rows)
            for row in range(first, last):
                slot = row % room.slots * room.pitch
                x, y_ = room.x[slot : slot + n + reach], room.y[slot : slot + n + reach]
                read_row(a, item_a, x0 + row * pitch_a, offset_a, x)
                read_row(b, item_b, x0 + row * pitch_b, offset_b, y_)
                for j in range(slot + n + reach, slot + room.pitch):
                    room.x[j] = room.y[j] = 0.0  # vectors reach over the rows' ends
            for row in range(last, min(last + LANES, rows)):
                fetch_row(a, item_a, x0 + row * pitch_a, n + reach)
                fetch_row(b, item_b, x0 + row * pitch_b, n + reach)
            if not _sum_rows(first, last, n + reach, phase_y, room) and one:
                return False
            if y < 0:
                continue
            if not one:
                _take_weights(weight, pitch_w, y * pitch_w + x0, n, last - first, room)
            if room.half.size:
                _fold_along(n, formula, terms, room)
            else:
                sum_along(
                    room.turned,
                    room.plane,
                    n,
                    room.window,
                    phase,
                    room.edge,
                    room.weight,
                    formula,
                    terms,
                    room.values,
                )
            to = y * pitch_out + x0
            _write_rows(out, item_out, pitch_out, to, n, last - first, room)
    return True


@njit(cache=True, nogil=True)
def _sum_rows(first: int, last: int, columns: int, phase: int, room: Room) -> bool:
    """Take in rows: as many as end no window, then eight at a time.

    ``room.turned`` then holds the sums along y of the windows that end with them. False if a
    pixel is not finite.
    """
    if not room.half.size:
        return _add_blocks(first, last, columns, phase, room)
    finite = _multiply_rows(first, last, columns, room)
    if last >= room.window:
        _fold_rows(first, columns, room)
    return finite


@njit(cache=True, nogil=True)
def _add_blocks(first: int, last: int, columns: int, phase: int, room: Room) -> bool:
    """The sums along y where all pixels count alike."""
    window = room.window
    begin = first + -(first + phase) % window  # where the first block from `first` on begins
    for end in range(begin if begin > first else begin + window, last + 1, window):
        top = end - window
        start = max(top, 0)
        add_tails(room.x, room.y, room.pitch, room.slots, columns, start, end, top >= 0, room.tails)
    if first == 0:
        for j in range(room.heads.size):
            room.heads[j] = 0.0
    return add_rows(
        room.x,
        room.y,
        room.pitch,
        room.slots,
        columns,
        first,
        last,
        begin,
        window,
        room.tails,
        room.heads,
        room.sums,
        room.turned,
        room.plane,
    )


@njit(cache=True, nogil=True)
def _multiply_rows(first: int, last: int, columns: int, room: Room) -> bool:
    """The five products of rows, each into its slot and the same slot of the second round."""
    pitch, finite = room.pitch, True
    round_ = room.slots * pitch
    for row in range(first, last):
        slot = row % room.slots * pitch
        x, y = room.x[slot : slot + columns], room.y[slot : slot + columns]
        for again in range(2):
            at = slot + again * round_
            finite &= _multiply(x, y, room.tails[at:], 2 * round_)
    return finite


@njit(cache=True, nogil=True)
def _multiply(
    x: NDArray[np.float64], y: NDArray[np.float64], out: NDArray[np.float64], plane: int
) -> bool:
    """The products of a row; whether those of both tiles with themselves are finite."""
    n = x.size
    for j in range(n):
        out[j] = x[j]
    for j in range(n):
        out[plane + j] = y[j]
    a, b, c = out[2 * plane :], out[3 * plane :], out[4 * plane :]
    for j in range(n):
        a[j] = x[j] * y[j]
    for j in range(n):
        b[j] = x[j] * x[j]
    for j in range(n):
        c[j] = y[j] * y[j]
    count = 0
    for j in range(n):
        count += (b[j] - b[j]) + (c[j] - c[j]) == 0.0
    return count == n


@njit(cache=True, nogil=True)
def _fold_rows(first: int, columns: int, room: Room) -> None:
    """The weighted sums along y of the windows that end with row `first` and the seven after it."""
    pitch, radius = room.pitch, room.half.size - 1
    middle = (first - 2 * radius) % room.slots + radius
    for k in range(QUANTITIES):
        for j in range(0, columns, LANES):
            for i in range(0, LANES, 4):
                at = (2 * k * room.slots + middle + i) * pitch + j
                to = (k * LANES + i) * pitch + j
                fold(room.tails, at, pitch, room.half, radius, room.sums, to, pitch)
            at = k * LANES * pitch + j
            transpose(room.sums, at, pitch, room.turned, k * room.plane + j * LANES, LANES)


@njit(cache=True, nogil=True)
def _fold_along(n: int, formula: int, terms: NDArray[np.float64], room: Room) -> None:
    radius, total, step, line = room.half.size - 1, room.total, room.step, np.int64(LANES)
    for k in range(QUANTITIES):
        for x in range(0, n, 4):
            at, to = k * room.plane + (x + radius) * LANES, k * step + x * LANES
            fold(room.turned, at, line, room.half, radius, total, to, line)
    for at in range(0, n * LANES, LANES):
        x, y, xy = load(total, at), load(total, at + step), load(total, at + 2 * step)
        xx, yy = load(total, at + 3 * step), load(total, at + 4 * step)
        values = evaluate(formula, terms, load(room.weight, at), x, y, xy, xx, yy)
        store(room.values, at, values)


@njit(cache=True, nogil=True)
def _take_weights(
    weight: NDArray[np.float64], pitch: int, begin: int, n: int, count: int, room: Room
) -> None:
    """The weights of up to eight rows of windows from pixel `begin` on, as vectors."""
    for i in range(count):
        line, to = weight[begin + i * pitch :], room.lines[i * room.pitch :]
        for j in range(n):
            to[j] = line[j]
    for j in range(0, n, LANES):
        transpose(room.lines, j, room.pitch, room.weight, j * LANES, LANES)


@njit(cache=True, nogil=True)
def _write_rows(
    raw: NDArray[np.uint8], item: int, pitch: int, begin: int, n: int, count: int, room: Room
) -> None:
    """``room.values`` as up to eight rows of the result, from pixel `begin` on."""
    for j in range(0, n, LANES):
        transpose(room.values, j * LANES, LANES, room.lines, j, room.pitch)
    for i in range(count):
        line = room.lines[i * room.pitch : i * room.pitch + n]
        write_row(line, raw, item, begin + i * pitch)
