"""Whether a tile holds what is not finite: looked up at the speed at which it is read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bigcorr.kernels.rows import is_rows, rows_of

_BLOCK = 4096
"""Pixels that are looked at together."""


def all_finite(tile: NDArray[Any]) -> bool:
    """Whether no pixel of a tile of numbers is NaN or infinite.

    Examples
    --------
    >>> all_finite(np.array([[1.0, 2.0], [3.0, np.inf]]))
    False
    """
    if tile.dtype.kind != "f":
        return True
    known = tile.dtype.isnative and tile.dtype.itemsize in (4, 8)
    if tile.ndim != 2 or not known or not is_rows(tile):
        return bool(np.isfinite(tile).all())
    return bool(_all_finite(*rows_of(tile), *tile.shape))


@njit(cache=True, nogil=True)
def _all_finite(pixels: NDArray[Any], pitch: int, height: int, width: int) -> bool:
    for y in range(height):
        for x in range(0, width, _BLOCK):
            line = pixels[y * pitch + x : y * pitch + min(x + _BLOCK, width)]
            count = 0
            for j in range(line.size):
                count += line[j] - line[j] == 0
            if count < line.size:
                return False
    return True
