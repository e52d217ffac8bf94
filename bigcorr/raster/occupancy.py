"""How many pixels of each block are not zero, and their sum: the tables beside a stack.

By these tables empty blocks are never read. Only the counting lives here; `stack.py` stores it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def _tally(
    data: NDArray[Any], size_y: int, size_x: int, filled: NDArray[Any], sums: NDArray[Any]
) -> None:
    channels, height, width = data.shape
    for c in range(channels):
        for y in range(height):
            row = data[c, y]
            for b in range(filled.shape[2]):
                part = row[b * size_x : min((b + 1) * size_x, width)]
                count = 0
                for value in part:
                    count += value != 0
                if count == 0:
                    continue
                total = 0.0
                for value in part:
                    if value == value:
                        total += value
                filled[c, y // size_y, b] += count
                sums[c, y // size_y, b] += total


def tally_blocks(
    data: NDArray[Any], chunk: tuple[int, int]
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Count of non-zero pixels and sum of each block of `data` (channel, h, w).

    Parameters
    ----------
    data : (channel, h, w) array of integers or floats; NaN counts as filled and adds nothing.
    chunk : (y, x) size of a block; `data` starts on a block's corner.

    Returns
    -------
    filled, sums : (channel, block_y, block_x) uint32 and float64.
    """
    blocks = (data.shape[0], -(-data.shape[1] // chunk[0]), -(-data.shape[2] // chunk[1]))
    filled = np.zeros(blocks, dtype=np.uint32)
    sums = np.zeros(blocks, dtype=np.float64)
    if data.dtype == np.float16:
        data = data.astype(np.float32)
    _tally(np.ascontiguousarray(data), chunk[0], chunk[1], filled, sums)
    return filled, sums
