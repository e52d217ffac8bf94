"""Means of square cells of a tile: the kernel behind a coarsened raster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit


@njit(cache=True, nogil=True)
def cell_means(
    values: NDArray[np.float64], valid: NDArray[np.uint8], cell: int, out: NDArray[np.float64]
) -> None:
    """Mean of each cell over its valid pixels; NaN where fewer than half of them are valid.

    What stands below each other is added up first, then across: where the tile begins does not
    enter, as long as it begins with a whole cell.

    Parameters
    ----------
    values : ndarray of float64, shape (h, w)
    valid : ndarray of uint8, shape (h, w) or (0, 0)
        1 where a pixel counts; (0, 0): all do.
    cell : int
        Side of a cell in pixels. The last ones may be cut off by the raster's edge.
    out : ndarray of float64, shape (ceil(h / cell), ceil(w / cell))
        Written to.
    """
    height, width = values.shape
    masked = valid.size > 0
    total = np.empty(width)
    number = np.empty(width, np.int64)
    for i in range(out.shape[0]):
        first, last = i * cell, min((i + 1) * cell, height)
        total[:] = 0.0
        number[:] = 0 if masked else last - first
        for y in range(first, last):
            row = values[y]
            if masked:
                marks = valid[y]
                for x in range(width):
                    total[x] += row[x] if marks[x] else 0.0
                    number[x] += 1 if marks[x] else 0
            else:
                for x in range(width):
                    total[x] += row[x]
        for j in range(out.shape[1]):
            begin, end = j * cell, min((j + 1) * cell, width)
            sum_, count = 0.0, 0
            for x in range(begin, end):
                sum_ += total[x]
                count += number[x]
            whole = (last - first) * (end - begin)
            out[i, j] = sum_ / count if 2 * count >= whole else np.nan
