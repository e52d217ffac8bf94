"""Weighted windows of one image searched in another, each from its own pixels alone.

A chip is the window of the reference at a node, its area the window in the moving image grown by
the search. Both are taken about their own means, so that where tiles are cut changes no bit, and
sums of products go directly (`products`) or, where windows and searches are large, by Fourier
transforms (`chips_fft`). What is made of a surface lives in `peaks`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.peaks import find_peak
from bigcorr.kernels.products import (
    MARGIN,
    ROWS,
    correlate,
    least_weight,
    padded_width,
    score_masked,
    score_whole,
    sum_windows,
    surface_shape,
)
from bigcorr.kernels.scratch import kept

CHIP_FLOOR = 1e-20
"""A chip is constant where its sum of squares about its mean is at most this share of that about 0:
what rounding leaves of equal float64 values is far below, a step in the last digit of one float32
value far above."""

CHIP, KNOWN, SQUARES = range(3)
PARTS = (
    (CHIP, CHIP),
    (CHIP, KNOWN),
    (KNOWN, KNOWN),
    (SQUARES, KNOWN),
    (KNOWN, CHIP),
    (KNOWN, SQUARES),
)
"""Which image of a chip goes with which of its area, in the order of `score_masked`."""


class Room(NamedTuple):
    """Sizes and memory that a thread matches chips in.

    window, side : pixels, shifts along each axis.
    pitch, pitch_out : elements from row to row of an area, of a surface.
    chip, area, surface : elements of each.
    taps : weights of a window along both axes.
    weight, least : of a whole window, and what must be valid of it.
    chips : the weighted chip about its mean, its weights, and its weighted squares, each with rows
        of zeros before and after it as `correlate` takes it.
    areas : the area about its mean, its mask, and its squares.
    surfaces : sums of products, see `PARTS`; the last is that of correlations.
    line : for `sum_windows`.
    """

    window: int
    side: int
    pitch: int
    pitch_out: int
    chip: int
    area: int
    surface: int
    taps: NDArray[np.float64]
    weight: float
    least: float
    chips: NDArray[np.float64]
    areas: NDArray[np.float64]
    surfaces: NDArray[np.float64]
    line: NDArray[np.float64]


def make_room(window: int, search: int, taps: NDArray[np.float64], min_valid: float) -> Room:
    """Room for chips of `window` pixels that are searched within `search` pixels."""
    (pitch, pitch_out, chip, area, surface), sizes = _sizes(window, search)
    chips, areas, surfaces, line = (kept(size, f"chips {name}") for name, size in sizes.items())
    chips[:], areas[:] = 0.0, 0.0  # what is not overwritten is read as well
    weight = float(taps.sum()) ** 2
    return Room(
        window,
        2 * search + 1,
        pitch,
        pitch_out,
        chip,
        area,
        surface,
        taps,
        weight,
        least_weight(weight, min_valid),
        chips,
        areas,
        surfaces,
        line,
    )


def room_bytes(window: int, search: int) -> int:
    """Bytes of `make_room`."""
    return 8 * sum(_sizes(window, search)[1].values())


def _sizes(window: int, search: int) -> tuple[tuple[int, int, int, int, int], dict[str, int]]:
    side = 2 * search + 1
    width = window + side - 1
    rows, pitch_out = surface_shape(side)
    pitch_out += MARGIN
    pitch = padded_width(width)
    chip = (window + 2 * (ROWS - 1)) * window
    area = (width + MARGIN) * pitch
    surface = rows * pitch_out
    sizes = {
        "chips": 3 * chip,
        "areas": 3 * area,
        "surfaces": (len(PARTS) + 1) * surface,
        "line": width + 2 * MARGIN,
    }
    return (pitch, pitch_out, chip, area, surface), sizes


@njit(cache=True, nogil=True)
def take_chip(
    pixels: NDArray[np.float64], begin: int, pitch: int, room: Room
) -> tuple[bool, float]:
    """Put a chip into ``room.chips``.

    Returns
    -------
    whole : bool
        Whether all its pixels are finite.
    squares : float
        The weighted sum of squares about the mean; 0 where the chip is constant.
    """
    window, size, taps = room.window, room.chip, room.taps
    weight = total = 0.0
    count = 0
    for r in range(window):
        line = pixels[begin + r * pitch : begin + r * pitch + window]
        for c in range(window):
            if line[c] - line[c] == 0.0:
                w = taps[r] * taps[c]
                weight += w
                total += w * line[c]
                count += 1
    mean = total / weight if weight > 0 else 0.0
    first = (ROWS - 1) * window
    square = 0.0
    for r in range(window):
        line = pixels[begin + r * pitch : begin + r * pitch + window]
        to = first + r * window
        for c in range(window):
            known = line[c] - line[c] == 0.0
            w = taps[r] * taps[c] if known else 0.0
            value = line[c] - mean if known else 0.0
            room.chips[to + c] = w * value
            room.chips[size + to + c] = w
            room.chips[2 * size + to + c] = w * value * value
            square += w * value * value
    if square <= CHIP_FLOOR * weight * mean * mean:
        square = 0.0
    return count == window * window, square


@njit(cache=True, nogil=True)
def take_area(pixels: NDArray[np.float64], begin: int, pitch: int, room: Room) -> bool:
    """Put an area into ``room.areas``: about its mean, its mask, and its squares.

    True if all its pixels are finite; else the missing ones are 0 in all three.
    """
    width, size = room.window + room.side - 1, room.area
    total, count = 0.0, 0
    for r in range(width):
        line = pixels[begin + r * pitch : begin + r * pitch + width]
        for c in range(width):
            known = line[c] - line[c] == 0.0
            total += line[c] if known else 0.0
            count += 1 if known else 0
    mean = total / count if count else 0.0
    for r in range(width):
        line = pixels[begin + r * pitch : begin + r * pitch + width]
        at = r * room.pitch
        for c in range(width):
            known = line[c] - line[c] == 0.0
            value = line[c] - mean if known else 0.0
            room.areas[at + c] = value
            room.areas[size + at + c] = 1.0 if known else 0.0
            room.areas[2 * size + at + c] = value * value
    return count == width * width


@njit(cache=True, nogil=True)
def score_chip(whole: bool, square: float, room: Room) -> None:
    """Correlations of a chip from the sums of products, the last of ``room.surfaces``."""
    size, side = room.surface, room.side
    score = room.surfaces[len(PARTS) * size :]
    if not whole:
        score_masked(room.surfaces, size, size, room.least, score)
        return
    for k, image in ((4, CHIP), (5, SQUARES)):
        sum_windows(
            room.areas,
            image * room.area,
            room.pitch,
            side,
            side,
            room.taps,
            room.line,
            room.surfaces,
            k * size,
            room.pitch_out,
        )
    score_whole(
        room.surfaces,
        room.pitch_out,
        side,
        room.weight,
        0.0,
        square,
        room.surfaces[4 * size :],
        room.surfaces[5 * size :],
        room.pitch_out,
        score,
    )


@njit(cache=True, nogil=True)
def match_chips(
    reference: NDArray[np.float64],
    moving: NDArray[np.float64],
    step: int,
    method: int,
    temperature: float,
    room: Room,
    out: NDArray[np.float64],
) -> None:
    """Search every chip of a tile.

    Parameters
    ----------
    reference : ndarray of float64, shape (h, w)
        The first chip begins with its first pixel; NaN is missing.
    moving : ndarray of float64, shape (h + 2 search, w + 2 search)
        The same place, grown by the search.
    step : int
        From chip to chip.
    method, temperature
        See `find_peak`.
    out : ndarray of float64, shape (n, m, 7)
        See `find_peak`.
    """
    a, b = reference.reshape(-1), moving.reshape(-1)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            begin = i * step * reference.shape[1] + j * step
            whole, square = take_chip(a, begin, reference.shape[1], room)
            if square == 0:
                out[i, j] = np.nan
                continue
            begin = i * step * moving.shape[1] + j * step
            whole &= take_area(b, begin, moving.shape[1], room)
            for k in range(1 if whole else len(PARTS)):
                chip, area = PARTS[k]
                correlate(
                    room.chips[chip * room.chip :],
                    room.window,
                    room.window,
                    room.areas,
                    area * room.area,
                    room.pitch,
                    room.side,
                    room.surfaces,
                    k * room.surface,
                    room.pitch_out,
                )
            score_chip(whole, square, room)
            score = room.surfaces[len(PARTS) * room.surface :]
            find_peak(score, 0, room.pitch_out, 1, room.side, method, temperature, out[i, j])
