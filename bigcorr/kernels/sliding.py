"""Windows around nodes so dense that they share nearly all: products of two shifted images, summed.

For every shift the product of the reference with the moved image is summed over windows along y and
then along x, eight columns at a time, each sum in an order that only the window decides. Values are
taken about an offset of the whole raster, so that where tiles are cut changes no bit. What is made
of a surface lives in `peaks`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.pair_images import Images
from bigcorr.kernels.products import (
    MARGIN,
    least_weight,
    padded,
    score_masked,
    sum_windows,
)
from bigcorr.kernels.scratch import kept
from bigcorr.kernels.sliding_sums import (
    invert_roots,
    score_windows,
    sum_products,
    take_peaks,
    window_moments,
)
from bigcorr.kernels.vectors import LANES

PANEL = 128
"""Columns that are worked out at a time: their correlations at all shifts stay in a near cache."""

_FEW = 8
"""Columns that are worked out together at least, where pixels are missing in some of a panel."""

_PARTS = 6
"""Sums of products where pixels are missing, see `score_masked`."""


def match_sliding(
    images: Images,
    search: int,
    step: int,
    taps: NDArray[np.float64],
    min_valid: float,
    method: int,
    temperature: float,
    out: NDArray[np.float64],
) -> None:
    """Search all windows of a tile.

    Parameters
    ----------
    images : Images
        The reference begins with the first window; the moving tile is the same place, grown by the
        search.
    search, step : int
        Shifts to each side, from window to window.
    taps : ndarray of float64, shape (window,)
        Weights along both axes.
    min_valid : float
        Share of a window's weight that must be valid in both images.
    method, temperature
        See `find_peak`.
    out : ndarray of float64, shape (n, m, 7)
        See `find_peak`.
    """
    side = 2 * search + 1
    rows, columns = ((n - 1) * step + 1 for n in out.shape[:2])
    weight = _whole_weight(taps)
    grown = rows + side - 1, columns + side - 1
    sums, scale = window_moments(images.b, images.bb, *grown, taps, weight)
    sizes = _sizes(taps.size, search)
    room = (kept(size, f"sliding {name}") for name, size in sizes.items())
    least = least_weight(weight, min_valid)
    _match(images, step, taps, weight, least, side, method, temperature, sums, scale, *room, out)


def work_bytes(window: int, search: int, step: int, nodes: tuple[int, int]) -> int:
    """Bytes that `match_sliding` holds for a tile of so many nodes, beside its images."""
    grown = 1
    for n in nodes:
        grown *= (n - 1) * step + 1 + 2 * search + MARGIN
    return 16 * grown + 8 * sum(_sizes(window, search).values())


def _sizes(window: int, search: int) -> dict[str, int]:
    side = 2 * search + 1
    pitch = _pitch(window)
    return {
        "rows": 3 * window * pitch,
        "column": pitch + 2 * MARGIN,
        "sums": _PARTS * (PANEL + 2 * MARGIN),
        "surface": side * side * PANEL + 2 * MARGIN,
        "near": LANES * side,
        "peaks": 3 * LANES,
    }


def _pitch(window: int) -> int:
    return (-(-(PANEL + window + MARGIN) // LANES) // 2 * 2 + 1) * LANES


def _whole_weight(taps: NDArray[np.float64]) -> float:
    """The weight of a window in the order in which the kernels take it."""
    ones, out = padded(np.ones((taps.size, taps.size))), np.empty(2 * MARGIN)
    line = np.empty(taps.size + 2 * MARGIN)
    sum_windows(ones.reshape(-1), 0, ones.shape[1], 1, 1, taps, line, out, 0, MARGIN)
    return float(out[0])


@njit(cache=True, nogil=True, error_model="numpy")
def _match(
    images: Images,
    step: int,
    taps: NDArray[np.float64],
    weight: float,
    least: float,
    side: int,
    method: int,
    temperature: float,
    sum_b: NDArray[np.float64],
    scale_b: NDArray[np.float64],
    rows: NDArray[np.float64],
    column: NDArray[np.float64],
    sums: NDArray[np.float64],
    surface: NDArray[np.float64],
    near: NDArray[np.float64],
    peaks: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    window = taps.size
    pitch = rows.size // (3 * window)
    strip = sums.size // _PARTS
    width = images.a.shape[1]
    pitch_b = images.b.shape[1]
    a, aa, known_a = images.a.reshape(-1), images.aa.reshape(-1), images.known_a.reshape(-1)
    b, bb, known_b = images.b.reshape(-1), images.bb.reshape(-1), images.known_b.reshape(-1)
    columns = (out.shape[1] - 1) * step + 1
    ones = np.ones(pitch + MARGIN)
    flat_sums, flat_roots = sum_b.reshape(-1), scale_b.reshape(-1)
    for i in range(out.shape[0]):
        y = i * step
        x = count = 0
        while x + count < columns:
            x += count
            count, whole = _panel(images, y, x, columns, window, side)
            for r in range(window):
                at = (y + r) * width + x
                for j in range(min(pitch, width - x)):
                    rows[r * pitch + j] = taps[r] * a[at + j]
                    rows[(2 * window + r) * pitch + j] = taps[r] * aa[at + j]
                if not whole:
                    for j in range(min(pitch, width - x)):
                        rows[(window + r) * pitch + j] = taps[r] * known_a[at + j]
            if whole:
                # The reference's own sums, in the order that they have where pixels are missing.
                for part, first in ((0, 0), (1, 2 * window * pitch)):
                    sum_products(
                        rows, first, pitch, ones, 0, 0, taps, count, column, sums, part * strip
                    )
                invert_roots(sums[:count], sums[strip : strip + count], weight)
                for j in range(count):
                    sums[j] /= weight
            if whole:
                score_windows(
                    rows,
                    pitch,
                    b,
                    y * pitch_b + x,
                    pitch_b,
                    taps,
                    side,
                    count,
                    PANEL,
                    column,
                    sums,
                    sums[strip:],
                    flat_sums,
                    flat_roots,
                    y * sum_b.shape[1] + x,
                    sum_b.shape[1],
                    surface,
                )
            for dy in range(0 if whole else side):
                for dx in range(side):
                    begin = (y + dy) * pitch_b + x + dx
                    to = surface[(dy * side + dx) * PANEL :]
                    for part in range(_PARTS):
                        first, second = 0, b
                        if part in (2, 4, 5):
                            first = window * pitch
                        elif part == 3:
                            first = 2 * window * pitch
                        if part in (1, 2, 3):
                            second = known_b
                        elif part == 5:
                            second = bb
                        sum_products(
                            rows,
                            first,
                            pitch,
                            second,
                            begin,
                            pitch_b,
                            taps,
                            count,
                            column,
                            sums,
                            part * strip,
                        )
                    score_masked(sums, strip, count, least, column)
                    for j in range(count):
                        to[j] = column[j]
            take_peaks(
                surface, 0, PANEL, side, count, x, step, near, peaks, method, temperature, out[i]
            )


@njit(cache=True, nogil=True)
def _panel(
    images: Images, y: int, x: int, columns: int, window: int, side: int
) -> tuple[int, bool]:
    """How many columns from `x` on to take together, and whether no pixel is missing for them."""
    if images.whole:
        return min(PANEL, columns - x), True
    count, first = 0, True
    while count < PANEL and x + count < columns:
        more = min(_FEW, columns - x - count)
        whole = _is_whole(images, y, x + count, window, side, more)
        if count == 0:
            first = whole
        elif whole != first:
            break
        count += more
    return count, first


@njit(cache=True, nogil=True)
def _is_whole(images: Images, y: int, x: int, window: int, side: int, count: int) -> bool:
    """Whether no pixel is missing of so many windows side by side, nor of what is searched."""
    total = 0.0
    for r in range(y, y + window):
        line = images.known_a[r, x : x + window + count - 1]
        for j in range(line.size):
            total += 1.0 - line[j]
    for r in range(y, y + window + side - 1):
        line = images.known_b[r, x : x + window + side + count - 2]
        for j in range(line.size):
            total += 1.0 - line[j]
    return total == 0.0
