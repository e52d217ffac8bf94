"""Sums of products over the windows of a strip, and their correlations: the loops of `strips`.

Every sum has an order that its place in the strip alone decides along y, and nothing along x.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.vectors import LANES, fma, if_greater, load, splat, store

STRIP = 16
"""Rows of nodes in a strip at most."""

PANEL = 128
"""Columns that are worked out at a time."""

_FEW = 8
"""Columns up to which sums are taken one by one: that is as many loads, and no store."""

_PAIR = 2 * LANES

Moments = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


class Plan(NamedTuple):
    """How the windows of a strip are summed.

    window, step : pixels, and from window to window.
    nodes : rows of nodes in a strip; all their windows have a row in common at least.
    pitch : numbers in a row of the room.
    size : from one shift to the next of what is made of a strip; cache lines in odd numbers.
    levels : how often columns are doubled.
    terms, by_row : where the doubled sums that make a window along x begin in the room, and how
        much farther from row to row.
    """

    window: int
    step: int
    nodes: int
    pitch: int
    size: int
    levels: int
    terms: NDArray[np.int64]
    by_row: NDArray[np.int64]


def plan_sums(window: int, step: int) -> Plan:
    """The sums of windows of some size.

    Examples
    --------
    >>> plan = plan_sums(13, 1)  # sums of 8, 4 and 1 columns
    >>> plan.nodes, plan.levels, (plan.terms % plan.pitch).tolist()
    (13, 3, [0, 8, 12])
    >>> plan_sums(32, 4).nodes
    8
    """
    bits = [k for k in range(window.bit_length()) if window >> k & 1][::-1]
    if window <= _FEW:
        bits = [0] * window
    elif len(bits) == 1:  # the last doubling is the result
        bits = [bits[0] - 1] * 2
    nodes = min(STRIP, (window - 1) // step + 1)
    pitch = -(-(PANEL + window + _PAIR) // LANES) * LANES
    offsets = [sum(2**k for k in bits[:n]) for n in range(len(bits))]
    # The rows of single columns, and behind them a row for each doubling.
    rows = [nodes + k - 1 if k else 0 for k in bits]
    terms = [row * pitch + at for row, at in zip(rows, offsets, strict=True)]
    by_row = [0 if k else pitch for k in bits]
    places = np.array(terms, np.int64), np.array(by_row, np.int64)
    return Plan(window, step, nodes, pitch, nodes * PANEL + LANES, bits[0], *places)


def room_size(plan: Plan) -> int:
    """Numbers of the room of `sum_columns`."""
    return (plan.nodes + plan.levels) * plan.pitch + plan.window + 2 * _PAIR


@njit(cache=True, nogil=True)
def sum_columns(
    a: NDArray[np.float64],
    at_a: int,
    pitch_a: int,
    b: NDArray[np.float64],
    at_b: int,
    pitch_b: int,
    plan: Plan,
    begin: int,
    end: int,
    count: int,
    room: NDArray[np.float64],
) -> None:
    """Sums of products of two images along y over the windows of a strip.

    Parameters
    ----------
    a, at_a, pitch_a, b, at_b, pitch_b
        The images, where the strip begins in each, and from row to row.
    begin, end, count : int
        Rows of nodes that are wanted, and columns. Only their windows are read.
    room : ndarray of float64
        See `room_size`; `sum_across` and `score_across` go on from there.
    """
    window, step, pitch = plan.window, plan.step, plan.pitch
    last = (plan.nodes - 1) * step
    for j in range(0, count + window - 1, 2 * LANES):
        s, t = splat(0.0), splat(0.0)
        for r in range(last, window):
            p, q = at_a + r * pitch_a + j, at_b + r * pitch_b + j
            s = fma(load(a, p), load(b, q), s)
            t = fma(load(a, p + LANES), load(b, q + LANES), t)
        for i in range(plan.nodes - 1, begin - 1, -1):
            if i < end:
                store(room, i * pitch + j, s)
                store(room, i * pitch + j + LANES, t)
            if i > begin:
                for r in range(i * step - 1, (i - 1) * step - 1, -1):
                    p, q = at_a + r * pitch_a + j, at_b + r * pitch_b + j
                    s = fma(load(a, p), load(b, q), s)
                    t = fma(load(a, p + LANES), load(b, q + LANES), t)
        s, t = splat(0.0), splat(0.0)
        for i in range(1, end):
            for r in range(window + (i - 1) * step, window + i * step):
                p, q = at_a + r * pitch_a + j, at_b + r * pitch_b + j
                s = fma(load(a, p), load(b, q), s)
                t = fma(load(a, p + LANES), load(b, q + LANES), t)
            if i >= begin:
                k = i * pitch + j
                store(room, k, load(room, k) + s)
                store(room, k + LANES, load(room, k + LANES) + t)


@njit(cache=True, nogil=True)
def _double(plan: Plan, i: int, count: int, room: NDArray[np.float64]) -> None:
    """Of a row of sums those of 2, 4, 8, ... columns."""
    source, span = i * plan.pitch, 1
    for level in range(plan.levels):
        to = (plan.nodes + level) * plan.pitch
        for j in range(0, count + plan.window - 2 * span, 2 * LANES):
            k = source + j
            store(room, to + j, load(room, k) + load(room, k + span))
            k += LANES
            store(room, to + j + LANES, load(room, k) + load(room, k + span))
        source, span = to, 2 * span


@njit(cache=True, nogil=True)
def sum_across(
    plan: Plan,
    begin: int,
    end: int,
    count: int,
    room: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """The sums over windows: element ``i * PANEL + j`` is the j-th one of the i-th row of nodes."""
    terms, by_row = plan.terms, plan.by_row
    for i in range(begin, end):
        _double(plan, i, count, room)
        for j in range(0, count, 2 * LANES):
            s, t = splat(0.0), splat(0.0)
            for k in range(terms.size):
                at = terms[k] + i * by_row[k] + j
                s, t = s + load(room, at), t + load(room, at + LANES)
            store(out, i * PANEL + j, s)
            store(out, i * PANEL + j + LANES, t)


@njit(cache=True, nogil=True)
def score_across(
    plan: Plan,
    begin: int,
    end: int,
    count: int,
    room: NDArray[np.float64],
    moments: Moments,
    at: int,
    pitch: int,
    place: int,
    pitch_moving: int,
    out: NDArray[np.float64],
) -> None:
    """Correlations of the windows of a strip at one shift, where no pixel is missing.

    Parameters
    ----------
    moments : (mean, scale, sums, scale)
        Of the reference's windows minus the mean and one over the root of the squares about it, of
        the moving image's windows the sum and the same, for windows at every pixel.
    at, pitch, place, pitch_moving : int
        Where the strip begins in those of the reference and, at this shift, in those of the moving
        image, and from row to row.
    out : ndarray of float64
        As `sum_across`.
    """
    mean, scale, sums, roots = moments
    terms, by_row = plan.terms, plan.by_row
    one, least = splat(1.0), splat(-1.0)
    for i in range(begin, end):
        _double(plan, i, count, room)
        here, there = at + i * plan.step * pitch, place + i * plan.step * pitch_moving
        for j in range(0, count, 2 * LANES):
            s, t = splat(0.0), splat(0.0)
            for k in range(terms.size):
                p = terms[k] + i * by_row[k] + j
                s, t = s + load(room, p), t + load(room, p + LANES)
            p, q = here + j, there + j
            s = fma(load(mean, p), load(sums, q), s) * (load(scale, p) * load(roots, q))
            p, q = p + LANES, q + LANES
            t = fma(load(mean, p), load(sums, q), t) * (load(scale, p) * load(roots, q))
            s, t = if_greater(s, one, one, s), if_greater(t, one, one, t)
            store(out, i * PANEL + j, if_greater(least, s, least, s))
            store(out, i * PANEL + j + LANES, if_greater(least, t, least, t))
