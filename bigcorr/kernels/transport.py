"""Masses on a coarse grid and how they are moved: sums of pixels, quantiles, entropic transport.

Arrays in, arrays out; nothing here knows of channels' names, files or measures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit

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


@njit(cache=True, nogil=True)
def _apply(
    down: FloatArray, across: FloatArray, values: FloatArray, between: FloatArray, out: FloatArray
) -> None:
    """``down @ values @ across``, one row at a time; `down` and `across` are symmetric."""
    for i in range(values.shape[0]):
        line = between[i]
        line[:] = 0.0
        for j in range(values.shape[1]):
            factor, row = values[i, j], across[j]
            if factor != 0.0:
                for k in range(line.size):
                    line[k] += factor * row[k]
    for i in range(values.shape[0]):
        line = out[i]
        line[:] = 0.0
        for j in range(values.shape[0]):
            factor, row = down[i, j], between[j]
            for k in range(line.size):
                line[k] += factor * row[k]


@njit(cache=True, nogil=True, error_model="numpy")
def entropic_cost(
    a: FloatArray,
    b: FloatArray,
    cost_y: FloatArray,
    cost_x: FloatArray,
    reg: float,
    tolerance: float,
    most: int,
) -> float:
    """Mean cost of the entropic transport of one grid of masses to another, by Sinkhorn's steps.

    The cost of a move is that of its part along y plus that along x, so that the kernel
    ``exp(-cost / reg)`` is applied along one axis after the other.

    Parameters
    ----------
    a, b : (ny, nx), each of sum 1
    cost_y, cost_x : (ny, ny) and (nx, nx), up to some hundreds of `reg`
    tolerance : sum of what is missing or too much in `a` at the end
    most : steps after which the result is taken as it is
    """
    down, across = np.exp(-cost_y / reg), np.exp(-cost_x / reg)
    u, v = np.zeros_like(a), np.ones_like(b)
    reached, between = np.empty_like(a), np.empty_like(a)
    for _ in range(most):
        _apply(down, across, v, between, reached)
        error = 0.0
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                error += abs(u[i, j] * reached[i, j] - a[i, j])
                u[i, j] = a[i, j] / reached[i, j] if a[i, j] > 0 else 0.0
        if error < tolerance:
            break
        _apply(down, across, u, between, reached)
        for i in range(b.shape[0]):
            for j in range(b.shape[1]):
                v[i, j] = b[i, j] / reached[i, j] if b[i, j] > 0 else 0.0
    total = 0.0
    _apply(down * cost_y, across, v, between, reached)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            total += u[i, j] * reached[i, j]
    _apply(down, across * cost_x, v, between, reached)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            total += u[i, j] * reached[i, j]
    return total
