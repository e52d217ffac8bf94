"""Masses on a coarse grid and how they are moved: sums of pixels, quantiles, entropic transport.

Arrays in, arrays out; nothing here knows of channels' names, files or measures.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@njit(cache=True, nogil=True)
def add_to_cells(values: FloatArray, y0: int, x0: int, side: int, cells: FloatArray) -> float:
    """Add the pixels of a block to the cells of the raster that they lie in.

    Parameters
    ----------
    values : (h, w), of which the first pixel is (y0, x0) of the raster
    side : pixels along a side of a cell
    cells : (ny, nx) of the whole raster

    Returns
    -------
    float
        The least of the values.
    """
    height, width = values.shape
    least = np.inf
    for i in range(height):
        row, out = values[i], cells[(y0 + i) // side]
        j = 0
        while j < width:
            cell = (x0 + j) // side
            stop = min(width, (cell + 1) * side - x0)
            total = 0.0
            for k in range(j, stop):
                total += row[k]
                least = min(least, row[k])
            out[cell] += total
            j = stop
    return least


@njit(cache=True, nogil=True)
def quantiles(
    mass: FloatArray,
    order: NDArray[np.int32],
    place: FloatArray,
    levels: FloatArray,
    weights: FloatArray,
    out: NDArray[np.float32],
) -> None:
    """Quantiles of masses seen along several directions, times weights.

    Parameters
    ----------
    mass : (n,) of at least 0, with some that is not
    order : (directions, n) the masses in the order of their places along a direction
    place : (directions, n) those places, ascending
    levels, weights : (k,) levels between 0 and 1, ascending
    out : (directions * k,)
    """
    count = levels.size
    total = 0.0
    for i in range(mass.size):
        total += mass[i]
    for d in range(order.shape[0]):
        below, last, k = 0.0, 0.0, 0
        for i in range(mass.size):
            m = mass[order[d, i]]
            if m > 0:
                below += m
                last = place[d, i]
                while k < count and levels[k] * total <= below:
                    out[d * count + k] = last * weights[k]
                    k += 1
                if k == count:
                    break
        for rest in range(k, count):
            out[d * count + rest] = last * weights[rest]
