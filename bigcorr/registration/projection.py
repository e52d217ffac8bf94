"""What a registration holds at most: pure arithmetic, for the projection of a run."""

from __future__ import annotations

import numpy as np

from bigcorr.registration.coarse import LONGEST
from bigcorr.registration.images import Pair
from bigcorr.registration.tiles import default_tile

_FIRST_LOOK = 32 + 4 * 120
"""Bytes a pixel of the images made smaller: they and their weights, and the masked correlation at
every shift, which is padded to twice the side. No task runs then."""

_SPECTRUM = 24 + 8
"""Bytes a pixel of a tile: the spectrum of one of each ninth of the raster, and its part of an
array of all of them."""

_MASKED = 3 * 4 * 32
"""Bytes a pixel of a tile: three times the masked sums at every shift."""


def registration_bytes(pair: Pair) -> tuple[int, int, int]:
    """Most bytes of a task of `register_pair`, and of what puts them together, beside and alone.

    Where pixels may be missing, tiles are taken to be compared as if some were.
    """
    side = default_tile(pair.shape)
    small = int(np.prod([-(-n // -(-n // LONGEST)) for n in pair.shape]))
    tile = int(np.prod([min(side, n) for n in pair.shape]))
    may_miss = any(
        image.source.may_miss or image.nodata is not None for image in (pair.reference, pair.moving)
    )
    item = sum(image.source.dtype.itemsize for image in (pair.reference, pair.moving))
    # Four tiles are read together, twice as large while they are decoded.
    read = 4 * tile * (2 * item + 2)
    task = read + tile * (4 * 120 if may_miss else 80)
    tiles = int(np.prod([-(-n // side) for n in pair.shape]))
    sums = tile * (_MASKED if may_miss else min(tiles, 9) * _SPECTRUM)
    return task, small * 32 + sums, small * _FIRST_LOOK
