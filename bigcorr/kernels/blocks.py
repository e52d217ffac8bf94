"""Windows that overlap, searched together: sums of products over the blocks that they share.

The borders of all windows cut a tile into blocks, and a window is a few of these. Products with the
moving image are summed once a block and shift, and a window's sums are those of its blocks in a
fixed order: with windows of twice the step a quarter of the work of `chips`. All pixels of a window
count alike. Values are taken about an offset of the whole raster, so that where tiles are cut
changes no bit. What is made of a surface lives in `peaks`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.pair_images import Images
from bigcorr.kernels.peaks import find_peak
from bigcorr.kernels.products import (
    ROWS,
    correlate,
    least_weight,
    score_masked,
    score_whole,
    sum_windows,
    surface_shape,
    take_block,
)
from bigcorr.kernels.scratch import kept
from bigcorr.kernels.vectors import LANES


class Cuts(NamedTuple):
    """How the windows along an axis are cut: see `plan_cuts`.

    A period of `step` pixels has `each` blocks: of `first` pixels, then the rest of the period if
    there is any. A window has `span` of them, and the windows together `blocks`.
    """

    step: int
    each: int
    first: int
    rest: int
    span: int
    blocks: int


def plan_cuts(window: int, step: int, nodes: int) -> Cuts:
    """The blocks of windows.

    Examples
    --------
    >>> plan_cuts(32, 16, 3)
    Cuts(step=16, each=1, first=16, rest=0, span=2, blocks=4)
    >>> plan_cuts(10, 4, 3)
    Cuts(step=4, each=2, first=2, rest=2, span=5, blocks=9)
    """
    left = window % step
    if window < step:
        each, first, rest, span = 1, window, 0, 1
    elif left:
        each, first, rest, span = 2, left, step - left, 2 * (window // step) + 1
    else:
        each, first, rest, span = 1, step, 0, window // step
    return Cuts(step, each, first, rest, span, (nodes - 1) * each + span)


def match_blocks(
    images: Images,
    window: int,
    search: int,
    step: int,
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
    window, search, step : int
        Side of the windows, shifts to each side, from window to window.
    min_valid : float
        Share of a window that must be valid in both images.
    method, temperature
        See `find_peak`.
    out : ndarray of float64, shape (n, m, 7)
        See `find_peak`.
    """
    rows, columns = (plan_cuts(window, step, n) for n in out.shape[:2])
    sizes = _sizes(window, search, step, out.shape[:2], images.whole)
    room = [kept(size, f"blocks {name}") for name, size in sizes.items()]
    if images.whole:
        need = np.zeros((rows.blocks, columns.blocks), np.uint8)
        masked = np.zeros(out.shape[:2], np.uint8)
    else:
        need, masked = _find_masked(images, rows, columns, window, search, out.shape[:2])
    _match(
        images,
        rows,
        columns,
        window,
        search,
        min_valid,
        method,
        temperature,
        need,
        masked,
        *room,
        out,
    )


def work_bytes(window: int, search: int, step: int, nodes: tuple[int, int]) -> int:
    """Most bytes that `match_blocks` holds for a tile of so many nodes, beside its images."""
    return 8 * sum(_sizes(window, search, step, nodes, False).values()) + 2 * nodes[0] * nodes[1]


def surfaces_bytes(window: int, search: int, step: int, columns: int) -> int:
    """The part of these that surfaces take, for so many nodes side by side."""
    sizes = _sizes(window, search, step, (1, columns), False)
    return 8 * (sizes["surfaces"] + sizes["strips"])


def _sizes(
    window: int, search: int, step: int, nodes: tuple[int, int], whole: bool
) -> dict[str, int]:
    side = 2 * search + 1
    rows, columns = (plan_cuts(window, step, n) for n in nodes)
    surface = int(np.prod(surface_shape(side)))
    parts = 1 if whole else 6
    most = max(rows.first, rows.rest)
    return {
        "block": (most + 2 * ROWS) * most,
        "surfaces": parts * columns.blocks * surface,
        "strips": parts * rows.span * nodes[1] * surface,
        "sums": 2 * (side + 1) * (((nodes[1] - 1) * step + side) + 2 * LANES),
        "line": (nodes[1] - 1) * step + side + window + 4 * LANES,
        "total": parts * surface,
        "score": surface,
    }


@njit(cache=True, nogil=True)
def _place(cuts: Cuts, index: int) -> tuple[int, int]:
    """Where a block begins, and how long it is."""
    if cuts.each == 1:
        return index * cuts.step, cuts.first
    begin = index // 2 * cuts.step
    return (begin + cuts.first, cuts.rest) if index % 2 else (begin, cuts.first)


def _find_masked(
    images: Images, rows: Cuts, columns: Cuts, window: int, search: int, nodes: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The blocks of windows in which a pixel is missing, or of their area; and these windows."""
    lost = _missing(images.known_a, window, rows.step, nodes)
    lost += _missing(images.known_b, window + 2 * search, rows.step, nodes)
    need = np.zeros((rows.blocks, columns.blocks), np.uint8)
    for i, j in zip(*np.nonzero(lost), strict=True):
        y, x = i * rows.each, j * columns.each
        need[y : y + rows.span, x : x + columns.span] = 1
    return need, (lost > 0).astype(np.uint8)


def _missing(
    known: NDArray[np.float64], side: int, step: int, nodes: tuple[int, ...]
) -> NDArray[np.float64]:
    """How many pixels are missing of the squares of `side` pixels at every node."""
    height, width = ((n - 1) * step + side for n in nodes)
    lost = 1.0 - known[:height, :width]
    if not lost.any():
        return np.zeros(nodes)
    # Running sums of whole numbers are exact.
    down = np.zeros((height + 1, width))
    np.cumsum(lost, axis=0, out=down[1:])
    rows = down[side::step] - down[: height - side + 1 : step]
    along = np.zeros((nodes[0], width + 1))
    np.cumsum(rows, axis=1, out=along[:, 1:])
    return along[:, side::step] - along[:, : width - side + 1 : step]


@njit(cache=True, nogil=True, error_model="numpy")
def _match(
    images: Images,
    rows: Cuts,
    columns: Cuts,
    window: int,
    search: int,
    min_valid: float,
    method: int,
    temperature: float,
    need: NDArray[np.uint8],
    masked: NDArray[np.uint8],
    block: NDArray[np.float64],
    surfaces: NDArray[np.float64],
    strips: NDArray[np.float64],
    sums: NDArray[np.float64],
    line: NDArray[np.float64],
    total: NDArray[np.float64],
    score: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    side = 2 * search + 1
    pitch_out = -(-side // LANES) * LANES
    surface = -(-side // ROWS) * ROWS * pitch_out
    m = out.shape[1]
    strip = m * surface
    parts = 1 if images.whole else 6
    taps = np.ones(window)
    least = least_weight(float(window * window), min_valid)
    length = (m - 1) * columns.step + side
    pitch_sums = length + 2 * LANES
    each = side * pitch_sums
    sums_b, sums_bb = sums[:each], sums[each : 2 * each]
    sums_a, sums_aa = sums[2 * each : 2 * each + pitch_sums], sums[2 * each + pitch_sums :]
    pitch_a, pitch_b = images.a.shape[1], images.b.shape[1]
    for index in range(rows.blocks):
        begin, height = _place(rows, index)
        for k in range(columns.blocks):
            left, width = _place(columns, k)
            for part in range(6 if need[index, k] else 1):
                first, second = images.a, images.b
                if part in (2, 4, 5):
                    first = images.known_a
                elif part == 3:
                    first = images.aa
                if part in (1, 2, 3):
                    second = images.known_b
                elif part == 5:
                    second = images.bb
                take_block(first.reshape(-1), begin * pitch_a + left, pitch_a, height, width, block)
                correlate(
                    block,
                    height,
                    width,
                    second.reshape(-1),
                    begin * pitch_b + left,
                    pitch_b,
                    side,
                    surfaces,
                    (part * columns.blocks + k) * surface,
                    pitch_out,
                )
        slot = index % rows.span
        for part in range(parts):
            for j in range(m):
                to = ((part * rows.span + slot) * m + j) * surface
                into = strips[to : to + surface]
                for k in range(columns.span):
                    at = (part * columns.blocks + j * columns.each + k) * surface
                    _add(surfaces[at : at + surface], into, k == 0)
        last = index - rows.span + 1
        if last < 0 or last % rows.each:
            continue
        i = last // rows.each
        # What the search of the windows above has seen is kept.
        seen = max(side - rows.step, 0) if i else 0
        begin = (i * rows.step + seen) * pitch_b
        for image, store_in in ((images.b, sums_b), (images.bb, sums_bb)):
            for k in range(seen * pitch_sums):
                store_in[k] = store_in[k + (side - seen) * pitch_sums]
            sum_windows(
                image.reshape(-1),
                begin,
                pitch_b,
                side - seen,
                length,
                taps,
                line,
                store_in,
                seen * pitch_sums,
                pitch_sums,
            )
        begin = i * rows.step * pitch_a
        width = (m - 1) * columns.step + 1
        sum_windows(
            images.a.reshape(-1), begin, pitch_a, 1, width, taps, line, sums_a, 0, pitch_sums
        )
        sum_windows(
            images.aa.reshape(-1), begin, pitch_a, 1, width, taps, line, sums_aa, 0, pitch_sums
        )
        for j in range(m):
            for part in range(6 if masked[i, j] else 1):
                into = total[part * surface : (part + 1) * surface]
                for k in range(rows.span):
                    slot = (last + k) % rows.span
                    at = (part * rows.span + slot) * strip + j * surface
                    _add(strips[at : at + surface], into, k == 0)
            if masked[i, j]:
                score_masked(total, surface, surface, least, score)
            else:
                x, xx = sums_a[j * columns.step], sums_aa[j * columns.step]
                score_whole(
                    total,
                    pitch_out,
                    side,
                    float(window * window),
                    x,
                    xx,
                    sums_b[j * columns.step :],
                    sums_bb[j * columns.step :],
                    pitch_sums,
                    score,
                )
            find_peak(score, 0, pitch_out, 1, side, method, temperature, out[i, j])


@njit(cache=True, nogil=True)
def _add(values: NDArray[np.float64], out: NDArray[np.float64], afresh: bool) -> None:
    if afresh:
        for k in range(values.size):
            out[k] = values[k]
    else:
        for k in range(values.size):
            out[k] += values[k]
