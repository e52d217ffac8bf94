"""Two tiles as the searches take them that share sums: values about an offset, squares and masks.

What is summed of them lives in `blocks`, `strips` and `sliding`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.products import MARGIN, padded


class Images(NamedTuple):
    """Two tiles as `match_blocks`, `match_strips` and `match_sliding` take them.

    a, b : the tiles about their offsets, 0 where missing.
    aa, bb : their squares.
    known_a, known_b : 1 where they are known.
    whole : whether nothing is missing in either; the masks are then empty.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    aa: NDArray[np.float64]
    bb: NDArray[np.float64]
    known_a: NDArray[np.float64]
    known_b: NDArray[np.float64]
    whole: bool


def take_images(
    reference: NDArray[np.float64], moving: NDArray[np.float64], offset_a: float, offset_b: float
) -> Images:
    """Two tiles in which NaN is missing, about offsets that are the same for all tiles."""
    whole = True
    parts = []
    for pixels, offset in ((reference, offset_a), (moving, offset_b)):
        values = padded(pixels)
        h, w = pixels.shape
        values[:h, :w] -= offset
        known = np.isfinite(pixels)
        if not known.all():
            whole = False
            values[:h, :w][~known] = 0.0
        parts.append((values, values * values, known))
    none = np.zeros((1, 1))
    (a, aa, known_a), (b, bb, known_b) = parts
    if whole:
        return Images(a, b, aa, bb, none, none, True)
    masks = padded(known_a.astype(np.float64)), padded(known_b.astype(np.float64))
    return Images(a, b, aa, bb, masks[0], masks[1], False)


def images_bytes(window: int, search: int, step: int, nodes: tuple[int, int]) -> int:
    """Most bytes that `take_images` makes for a tile of so many nodes."""
    tile = grown = 1
    for n in nodes:
        tile *= (n - 1) * step + window + 2 * MARGIN
        grown *= (n - 1) * step + window + 2 * search + 2 * MARGIN
    # Values, squares and masks, and what a tile is on its way to them.
    return (tile + grown) * (3 * 8 + 1) + 2 * 8 * max(tile, grown)
