"""Windows around nodes so dense that they share nearly all, and whose pixels count alike.

Strips of some rows of nodes: at every shift the products of the two images are summed along y, what
all windows of a strip share once and the rest from both ends, and along x by doubling, to sums of
2, 4, 8, ... columns. So a node costs a handful of additions a shift, whatever the window. Strips
are counted from the raster's first row, and values are taken about an offset of the whole raster:
where tiles are cut changes no bit. The sums are in `strip_sums`, weighted windows in `sliding`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.pair_images import Images
from bigcorr.kernels.products import MARGIN, least_weight, score_masked
from bigcorr.kernels.scratch import kept
from bigcorr.kernels.sliding_sums import take_peaks, window_moments
from bigcorr.kernels.strip_sums import (
    PANEL,
    Moments,
    Plan,
    plan_sums,
    room_size,
    score_across,
    sum_across,
    sum_columns,
)
from bigcorr.kernels.vectors import LANES

_FEW = 16
"""Columns without missing pixels that are worth while taking by themselves."""

_PARTS = 6
"""Sums of products where pixels are missing, see `score_masked`."""


def match_strips(
    images: Images,
    window: int,
    search: int,
    step: int,
    min_valid: float,
    method: int,
    temperature: float,
    first: int,
    out: NDArray[np.float64],
) -> None:
    """Search all windows of a tile.

    Parameters
    ----------
    images : Images
        The reference begins with the first window; the moving tile is the same place, grown by the
        search.
    window, search, step : int
        Pixels; shifts to each side; from window to window.
    min_valid : float
        Share of a window that must be valid in both images.
    method, temperature
        See `find_peak`.
    first : int
        The first row of nodes, counted from that of the raster.
    out : ndarray of float64, shape (n, m, 7)
        See `find_peak`.
    """
    side = 2 * search + 1
    plan = plan_sums(window, step)
    rows, columns = ((n - 1) * step + 1 for n in out.shape[:2])
    grown = rows + side - 1, columns + side - 1
    taps, weight = np.ones(window), float(window * window)
    means, roots_a = window_moments(images.a, images.aa, rows, columns, taps, weight)
    means[:, :columns] /= -weight  # what is behind them was never written
    sums, roots_b = window_moments(images.b, images.bb, *grown, taps, weight)
    sizes = _sizes(window, search, step)
    room = (kept(size, f"strips {name}") for name, size in sizes.items())
    least = least_weight(weight, min_valid)
    moments = means, roots_a, sums, roots_b
    _match(images, plan, first, least, side, method, temperature, moments, *room, out)


def work_bytes(window: int, search: int, step: int, nodes: tuple[int, int]) -> int:
    """Bytes that `match_strips` holds for a tile of so many nodes, beside its images."""
    total = 8 * sum(_sizes(window, search, step).values())
    for around in (0, 2 * search):
        rows, columns = ((n - 1) * step + 1 + around for n in nodes)
        total += 16 * rows * (columns + MARGIN)  # sums, and those of squares
        total += 4 * (rows + window + MARGIN) * (columns + window + 2 * MARGIN)  # holes
    return total


def _sizes(window: int, search: int, step: int) -> dict[str, int]:
    side = 2 * search + 1
    plan = plan_sums(window, step)
    return {
        "room": room_size(plan),
        "parts": _PARTS * plan.size,
        "score": PANEL,
        "surface": side * side * plan.size,
        "near": LANES * side,
        "peaks": 3 * LANES,
    }


@njit(cache=True, nogil=True, error_model="numpy")
def _match(
    images: Images,
    plan: Plan,
    first: int,
    least: float,
    side: int,
    method: int,
    temperature: float,
    moments: Moments,
    room: NDArray[np.float64],
    parts: NDArray[np.float64],
    score: NDArray[np.float64],
    surface: NDArray[np.float64],
    near: NDArray[np.float64],
    peaks: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    step, window = plan.step, plan.window
    pitch_a, pitch_b = images.a.shape[1], images.b.shape[1]
    a, aa, known_a = images.a.reshape(-1), images.aa.reshape(-1), images.known_a.reshape(-1)
    b, bb, known_b = images.b.reshape(-1), images.bb.reshape(-1), images.known_b.reshape(-1)
    columns = (out.shape[1] - 1) * step + 1
    means, scales, sums, roots = moments
    flat = means.reshape(-1), scales.reshape(-1), sums.reshape(-1), roots.reshape(-1)
    pitch, pitch_sums = means.shape[1], sums.shape[1]
    size = plan.size
    weight = float(window * window)
    clean = np.ones(columns, np.bool_)
    holes_a, holes_b = _count_holes(images.known_a), _count_holes(images.known_b)
    strip = -(first % plan.nodes)  # the tile may begin within a strip
    while strip < out.shape[0]:
        begin, end = max(-strip, 0), min(plan.nodes, out.shape[0] - strip)
        y = strip * step
        top, bottom = y + begin * step, y + (end - 1) * step + window
        if not images.whole:
            for j in range(columns):
                clean[j] = _is_clean(holes_a, top, bottom, j, j + window) and _is_clean(
                    holes_b, top, bottom + side - 1, j, j + window + side - 1
                )
        x = count = 0
        while x + count < columns:
            x += count
            count, whole = _panel(clean, x)
            right = x + count + window - 1
            clean_a = whole or _is_clean(holes_a, top, bottom, x, right)
            at_a = y * pitch_a + x
            for shift in range(side * side):
                dy, dx = shift // side, shift % side
                at_b = (y + dy) * pitch_b + x + dx
                sum_columns(a, at_a, pitch_a, b, at_b, pitch_b, plan, begin, end, count, room)
                to = surface[shift * size :]
                place = (y + dy) * pitch_sums + x + dx
                score_across(
                    plan, begin, end, count, room, flat, y * pitch + x, pitch, place, pitch_sums, to
                )
                if whole or (
                    clean_a and _is_clean(holes_b, top + dy, bottom + dy, x + dx, right + dx)
                ):
                    continue
                sum_across(plan, begin, end, count, room, parts)
                for part in range(1, _PARTS):
                    u, v = a, known_b
                    if part in (2, 4, 5):
                        u = known_a
                    elif part == 3:
                        u = aa
                    if part == 4:
                        v = b
                    elif part == 5:
                        v = bb
                    sum_columns(u, at_a, pitch_a, v, at_b, pitch_b, plan, begin, end, count, room)
                    sum_across(plan, begin, end, count, room, parts[part * size :])
                for i in range(begin, end):
                    at = i * PANEL
                    score_masked(parts[at:], size, count, least, score)
                    valid, values = parts[2 * size + at :], to[at:]
                    for j in range(count):
                        # Where nothing is missing the value is that of a tile without holes.
                        values[j] = values[j] if valid[j] == weight else score[j]
            for i in range(begin, end):
                row = out[strip + i]
                take_peaks(
                    surface,
                    i * PANEL,
                    size,
                    side,
                    count,
                    x,
                    step,
                    near,
                    peaks,
                    method,
                    temperature,
                    row,
                )
        strip += plan.nodes


@njit(cache=True, nogil=True)
def _count_holes(known: NDArray[np.float64]) -> NDArray[np.int32]:
    """How many pixels are missing above and to the left of each corner of a pixel."""
    height, width = known.shape
    out = np.zeros((height + 1, width + 1), np.int32)
    for i in range(height):
        row = 0
        for j in range(width):
            row += known[i, j] == 0.0
            out[i + 1, j + 1] = out[i, j + 1] + row
    return out


@njit(cache=True, nogil=True)
def _is_clean(holes: NDArray[np.int32], top: int, bottom: int, left: int, right: int) -> bool:
    """Whether no pixel of a box is missing."""
    inside = holes[bottom, right] - holes[top, right] - holes[bottom, left] + holes[top, left]
    return bool(inside == 0)


@njit(cache=True, nogil=True)
def _panel(clean: NDArray[np.bool_], x: int) -> tuple[int, bool]:
    """How many columns from `x` on to take together, and whether all of them are clean.

    Few clean ones between others are taken with these: their values are the same.
    """
    most = min(PANEL, clean.size - x)
    run = 0
    while run < most and clean[x + run]:
        run += 1
    if run == most or run >= _FEW:
        return run, True
    count, run = run, 0
    while count < most and run < _FEW:
        run = run + 1 if clean[x + count] else 0
        count += 1
    return (count - run if run == _FEW else count), False
