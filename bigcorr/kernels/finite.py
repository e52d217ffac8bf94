"""Whether a tile holds what is not finite: looked up at the speed at which it is read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.rows import is_rows, rows_of
from bigcorr.kernels.vectors import LANES, load, splat, store


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
    ends = np.empty(LANES)
    whole = width - width % LANES
    for y in range(height):
        line = pixels[y * pitch : y * pitch + width]
        # Less itself a number is 0, and anything else is NaN from then on.
        lanes, rest = splat(0.0), 0.0
        for x in range(0, whole, LANES):
            values = load(line, x)
            lanes = lanes + (values - values)
        for x in range(whole, width):
            rest += line[x] - line[x]
        store(ends, 0, lanes)
        if ends.sum() + rest != 0:
            return False
    return True
