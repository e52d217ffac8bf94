"""Where tiles are cut, and which of them agree: geometry and medians, no pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.tiles import Box, Shape

MOST_TILES = 32
"""Tiles along each axis at most: more of them add little but time."""

_TILES = ((640, 128), (1280, 256), (2048, 512))
"""Shorter sides of images, and the side of tiles for those below."""

_FEW_TILES = 32
_LEAST_OVERLAP = 8
_STRAY = 0.1
"""Tiles up to which they may overlap by half; least side of what two images share; how far, in
pixels, a tile may always be from the median of all."""


def overlap(shape: Shape, shift: Shape) -> Box | None:
    """The pixels of the reference that the moved image covers; None of hardly any."""
    (h, w), (dy, dx) = shape, shift
    box = Box(max(0, dy), min(h, h + dy), max(0, dx), min(w, w + dx))
    return box if min(box.shape) >= _LEAST_OVERLAP else None


def default_tile(shape: Shape) -> int:
    """Side of the tiles where nobody says: so that there are several.

    A part of the images that truly changed is left out by tiles alone, and pulls a single one.
    """
    shorter = min(shape)
    return next((tile for below, tile in _TILES if shorter < below), 1024)


def tiles_over(
    box: Box, tile: int, most: int = MOST_TILES, halves: bool = False
) -> list[list[Box]]:
    """Rows of tiles of one shape, evenly over a box; at most so many along an axis.

    With `halves` a few of them overlap by half, so that tapers leave no pixel out.
    """
    lengths = [-(-length // min(tile, length)) for length in box.shape]
    halves = halves and lengths[0] * lengths[1] <= _FEW_TILES
    axes = []
    for start, length in ((box.y0, box.shape[0]), (box.x0, box.shape[1])):
        side = min(tile, length)
        count = min(most, -(-length // side))
        if halves:
            count = 2 * count - 1
        room = length - side
        axes.append([(start + k * room // max(count - 1, 1), side) for k in range(count)])
    rows, columns = axes
    return [[Box(y, y + h, x, x + w) for x, w in columns] for y, h in rows]


def shared(shape: Shape, shift: Shape) -> Box:
    """As `overlap`, or an `InputError`."""
    box = overlap(shape, shift)
    if box is None:
        raise InputError(
            f"moving: got an image that shares less than {_LEAST_OVERLAP} pixels with reference "
            f"after a shift of {shift}, takes one that overlaps it"
        )
    return box


def flat(rows: list[list[Box]]) -> list[Box]:
    """The tiles of all rows."""
    return [box for row in rows for box in row]


def middles(boxes: list[Box]) -> NDArray[np.float64]:
    """(n, 2): (y, x) of the middle of each box."""
    return np.array([[(box.y0 + box.y1 - 1) / 2, (box.x0 + box.x1 - 1) / 2] for box in boxes])


def agreeing(own: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tiles that match, and where most others do; all of them where these would be few."""
    if not inside.any():
        return np.ones(len(own), bool)
    middle = np.median(own[inside], axis=0)
    far = np.abs(own - middle)
    scale = 1.4826 * np.median(far[inside], axis=0)
    used = inside & (far <= np.maximum(3 * scale, _STRAY)).all(axis=1)
    return used if 2 * used.sum() >= inside.sum() else inside


def spread_of(shifts: NDArray[np.float64]) -> tuple[float, float]:
    """Robust standard deviation of shifts (n, 2); NaN of fewer than two."""
    if len(shifts) < 2:
        return np.nan, np.nan
    far = np.abs(shifts - np.median(shifts, axis=0))
    dy, dx = 1.4826 * np.median(far, axis=0)
    return float(dy), float(dx)
