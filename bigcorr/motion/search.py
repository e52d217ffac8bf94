"""One tile of nodes searched: which of the ways costs least, and the memory that it takes.

All ways give the same numbers but for rounding, and which one is taken depends on the parameters
alone, never on where tiles are cut. The ways themselves are `kernels.blocks`, `kernels.chips`,
`kernels.chips_fft`, `kernels.sliding` and `kernels.strips`.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.motion.plan import Pass, Search
from bigcorr.tiles import Shape

Way = Literal["blocks", "chips", "fft", "sliding", "strips"]

MEMORY = 64 * 2**20
"""What blocks may hold of surfaces at a time: a tile with more nodes is searched in parts."""

_BAND = 64
"""Rows of nodes, at least, that are searched at a time by strips."""

_PRODUCT = 0.3
_SUM = 0.45
_MOVE = 0.9
_PIXEL = 1.2
_DOUBLING = 0.15
_PEAK = 0.3
_SHIFT = 2.4
_FFT = 1.35
_CALL = 60_000.0
_BLOCK = 60.0
"""What things take on a core of 2023 (AMD EPYC 9004), in nanoseconds: eight products, the sums of
eight windows a pixel of a side, eight numbers of a surface that are added to another, a pixel that
is taken in, eight sums of columns that are added to another, a shift of one node of many side by
side, a shift of one node by itself, a number of a transform times the logarithm of its size, the
calls of the transforms of a chip, a block. Any others give the same numbers but for rounding."""


def choose(spec: Pass, uniform: bool) -> Way:
    """The way that costs least.

    Examples
    --------
    >>> [choose(Pass(*each), uniform=True) for each in [(32, 16, 16), (7, 4, 1), (256, 128, 256)]]
    ['blocks', 'strips', 'fft']
    """
    cost: dict[Way, float] = {
        "chips": _chips(spec),
        "fft": _transforms(spec),
        "sliding": _dense(spec),
    }
    if uniform:
        cost |= {"blocks": _shared(spec), "strips": _strips(spec)}
    return min(cost, key=lambda way: cost[way])


def _surface(side: int) -> float:
    """Vectors of eight in a surface."""
    return math.ceil(side / 3) * 3 * math.ceil(side / 8)


def _sums(window: int, side: int) -> float:
    """The sums of the windows of an area, and taking a chip and its area in."""
    sums = 2 * _SUM * side * window * (math.ceil((window + side) / 8) + math.ceil(side / 8))
    return sums + _PIXEL * (window**2 + 2 * (window + side) ** 2) + _SHIFT * side**2


def _chips(spec: Pass) -> float:
    side, window = 2 * spec.search + 1, spec.window
    return _PRODUCT * (window + 4) * window * _surface(side) + _sums(window, side)


def _transforms(spec: Pass) -> float:
    from bigcorr.kernels.chips_fft import padded_side

    size = padded_side(spec.window, spec.search) ** 2
    return _FFT * size * math.log2(size) + _CALL + _sums(spec.window, 2 * spec.search + 1)


def _dense(spec: Pass) -> float:
    return (2 * spec.search + 1) ** 2 * spec.step * (_PRODUCT * (spec.window + 2) + _PEAK)


def _strips(spec: Pass) -> float:
    from bigcorr.kernels.strip_sums import PANEL, plan_sums

    plan = plan_sums(spec.window, spec.step)
    rows = (spec.window + (plan.nodes - 1) * spec.step) / plan.nodes
    along = _PRODUCT * rows * (1 + spec.window / PANEL)
    across = _DOUBLING * (plan.levels + plan.terms.size)
    return (2 * spec.search + 1) ** 2 * spec.step * (along + across + _PEAK)


def _shared(spec: Pass) -> float:
    from bigcorr.kernels.blocks import plan_cuts

    cuts = plan_cuts(spec.window, spec.step, 1)
    side = 2 * spec.search + 1
    widths = [cuts.first] + [cuts.rest] * (cuts.each - 1)
    products = sum((h + 4) * w for h in widths for w in widths) * _PRODUCT
    additions = (cuts.each * cuts.span + cuts.span) * _MOVE
    sums = 2 * _SUM * spec.step * spec.window * 2 * math.ceil(spec.step / 8)
    taking = _PIXEL * 4 * spec.step**2 + _SHIFT * side**2 + _BLOCK * len(widths) ** 2
    return (products + additions) * _surface(side) + sums + taking


def rows_at_once(spec: Pass, search: Search, rows: int) -> int:
    """Rows of nodes that `search_tile` is best given of so many.

    Strips share nothing with each other, so a few of them at a time stay in a near cache.
    """
    if choose(spec, search.weights == "uniform") != "strips":
        return rows
    from bigcorr.kernels.strip_sums import plan_sums

    nodes = plan_sums(spec.window, spec.step).nodes
    return min(rows, -(-_BAND // nodes) * nodes)


def search_tile(
    reference: NDArray[np.float64],
    moving: NDArray[np.float64],
    spec: Pass,
    search: Search,
    nodes: Shape,
    offsets: tuple[float, float],
    first: int = 0,
) -> NDArray[np.float64]:
    """What `find_peak` says of all nodes of a tile.

    Parameters
    ----------
    reference : ndarray of float64
        The pixels of all windows; NaN is missing.
    moving : ndarray of float64
        The same place, grown by the search.
    spec, search
    nodes : (int, int)
        How many there are.
    offsets : (float, float)
        A value near the level of each whole raster, the same for all tiles.
    first : int
        The first row of nodes, counted from that of the raster.

    Returns
    -------
    ndarray of float64, shape (*nodes, 7)
    """
    from bigcorr.kernels.peaks import METHODS, VALUES

    out = np.empty((*nodes, VALUES))
    peak = METHODS[search.subpixel], search.temperature
    way = choose(spec, search.weights == "uniform")
    taps = search.taps(spec.window)
    if way in ("chips", "fft"):
        from bigcorr.kernels.chips import make_room, match_chips
        from bigcorr.kernels.chips_fft import match_chips_fft

        room = make_room(spec.window, spec.search, taps, search.min_valid)
        match = match_chips if way == "chips" else match_chips_fft
        match(reference, moving, spec.step, *peak, room, out)
        return out
    from bigcorr.kernels.blocks import match_blocks
    from bigcorr.kernels.pair_images import take_images
    from bigcorr.kernels.sliding import match_sliding
    from bigcorr.kernels.strips import match_strips

    width = _columns(spec, nodes) if way == "blocks" else nodes[1]
    for left in range(0, nodes[1], width):
        count = min(width, nodes[1] - left)
        x0 = left * spec.step
        x1 = x0 + (count - 1) * spec.step + spec.window
        images = take_images(reference[:, x0:x1], moving[:, x0 : x1 + 2 * spec.search], *offsets)
        part = out if count == nodes[1] else np.empty((nodes[0], count, VALUES))
        if way == "blocks":
            match_blocks(images, spec.window, spec.search, spec.step, search.min_valid, *peak, part)
        elif way == "strips":
            sizes = spec.window, spec.search, spec.step
            match_strips(images, *sizes, search.min_valid, *peak, first, part)
        else:
            match_sliding(images, spec.search, spec.step, taps, search.min_valid, *peak, part)
        if part is not out:
            out[:, left : left + count] = part
    return out


def _columns(spec: Pass, nodes: Shape) -> int:
    """Nodes side by side whose surfaces fit `MEMORY`."""
    from bigcorr.kernels.blocks import surfaces_bytes

    width = nodes[1]
    while width > 1 and surfaces_bytes(spec.window, spec.search, spec.step, width) > MEMORY:
        width = -(-width // 2)
    return width


def search_bytes(spec: Pass, search: Search, nodes: Shape) -> int:
    """Most bytes that `search_tile` holds beside the pixels that it is given."""
    from bigcorr.kernels import blocks, chips, chips_fft, pair_images, sliding, strips
    from bigcorr.kernels.peaks import VALUES

    way = choose(spec, search.weights == "uniform")
    result = 2 * 8 * VALUES * nodes[0] * nodes[1]
    if way in ("chips", "fft"):
        work = chips.room_bytes(spec.window, spec.search)
        extra = chips_fft.work_bytes(spec.window, spec.search) if way == "fft" else 0
        return result + work + extra
    width = _columns(spec, nodes) if way == "blocks" else nodes[1]
    work = pair_images.images_bytes(spec.window, spec.search, spec.step, (nodes[0], width))
    if way == "sliding":
        return result + work + sliding.work_bytes(spec.window, spec.search, spec.step, nodes)
    if way == "strips":
        return result + work + strips.work_bytes(spec.window, spec.search, spec.step, nodes)
    return result + work + blocks.work_bytes(spec.window, spec.search, spec.step, (nodes[0], width))
